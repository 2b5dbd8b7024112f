from collections import Counter

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from kakehashi.tokenization.vocabulary import (
    Entry,
    add_fillers,
    backend_content,
    count_uses,
    crosses_sentence_end,
    filler_token,
    is_filler,
    list_entries,
    mixes_digits_and_letters,
    unused_merges,
)


def test_every_entry_has_an_id_a_kind_and_bytes(tiny_tokenizer):
    entries = list_entries(tiny_tokenizer)
    assert [entry.id for entry in entries] == list(range(384))
    assert Counter(entry.kind for entry in entries) == {"special": 17, "byte": 256, "merge": 384 - 17 - 256}
    assert entries[1] == Entry(1, b"<s>", "special")
    assert sorted(entry.content for entry in entries if entry.kind == "byte") == [bytes([byte]) for byte in range(256)]
    assert "です" in {entry.text for entry in entries}
    assert any(entry.text is None for entry in entries)


def test_no_entry_of_a_trained_vocabulary_crosses_a_sentence_end_or_mixes_digits_and_letters():
    from kakehashi.tokenization import train_tokenizer

    texts = ["3D is 5月5日。私は。」と言った.A B.C 12cats, cats12 e.g.this!Yes"] * 9
    trained = train_tokenizer(texts, vocab_size=460, allow_smaller=True, show_progress=False)
    found = [entry.text for entry in list_entries(trained) if entry.kind == "merge" and entry.text is not None]
    assert len(found) > 20
    assert not [text for text in found if crosses_sentence_end(text) or mixes_digits_and_letters(text)]


@pytest.mark.parametrize(
    ("text", "crosses"), [(".A", True), ("。私", True), ("e.g", True), ('."', False), ("...", False), ("cat", False)]
)
def test_an_entry_crosses_a_sentence_end_if_letters_follow_it(text, crosses):
    assert crosses_sentence_end(text) is crosses


@pytest.mark.parametrize(
    ("text", "mixes"), [("3D", True), ("5月", True), ("１Ａ", True), ("12", False), ("二月", False)]
)
def test_digits_and_letters_together_are_a_mixture(text, mixes):
    assert mixes_digits_and_letters(text) is mixes


def test_uses_are_counted_and_only_merges_can_be_unused(tiny_tokenizer, tiny_sentences):
    uses = count_uses(tiny_tokenizer, tiny_sentences)
    assert sum(uses.values()) == sum(map(len, tiny_tokenizer(tiny_sentences, add_special_tokens=False)["input_ids"]))
    entries = list_entries(tiny_tokenizer)
    unused = unused_merges(entries, uses)
    assert all(entry.kind == "merge" and uses[entry.id] == 0 for entry in unused)
    assert len(unused_merges(entries, Counter())) == 384 - 17 - 256


def test_fillers_round_the_size_up():
    vocabulary = {"a": 0, "b": 1}
    add_fillers(vocabulary, 4)
    assert vocabulary == {"a": 0, "b": 1, filler_token(0): 2, filler_token(1): 3}
    add_fillers(vocabulary, 4)
    assert len(vocabulary) == 4
    assert [token for token in vocabulary if is_filler(token)] == ["<filler 0>", "<filler 1>"]
    with pytest.raises(ValueError, match="`pad_to_multiple_of` must be 1 or more, got 0"):
        add_fillers(vocabulary, 0)


def test_another_kind_of_vocabulary_is_refused():
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"▁cat": 0}, unk_token="▁cat")))
    with pytest.raises(ValueError, match="`token` must be of a byte-level vocabulary"):
        list_entries(other)
    with pytest.raises(ValueError, match=r"`tokenizer` must have a tokenizer\.json, but object has none"):
        backend_content(object())
