import copy

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
)
from kakehashi.tokenization import encode_source, train_tokenizer
from kakehashi.tokenization.extension import extend_tokenizer, resize_model
from kakehashi.tokenization.train import save_tokenizer
from kakehashi.tokenization.vocabulary import list_entries

WORDS = ["架け橋", " encoder", "猫と犬"]


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def test_old_ids_stay_and_new_words_are_one_token(tiny_tokenizer, tiny_sentences):
    extension = extend_tokenizer(tiny_tokenizer, WORDS)
    extended = extension.tokenizer
    assert extension.added == tuple(WORDS)
    assert extended.get_vocab().items() >= tiny_tokenizer.get_vocab().items()
    assert extended(tiny_sentences)["input_ids"] == tiny_tokenizer(tiny_sentences)["input_ids"]
    assert [ids_of(extended, word) for word in WORDS] == [[384], [385], [386]]
    assert 385 in ids_of(extended, "An encoder.")
    assert extended.decode(ids_of(extended, "この架け橋。")) == "この架け橋。"
    assert len(tiny_tokenizer) == 384


def test_the_size_is_a_multiple_of_64_and_no_text_makes_a_filler(tiny_tokenizer):
    extended = extend_tokenizer(tiny_tokenizer, WORDS).tokenizer
    assert len(extended) == 448
    kinds = [entry.kind for entry in list_entries(extended)]
    assert kinds[384:387] == ["added"] * 3
    assert set(kinds[387:]) == {"filler"}
    assert max(ids_of(extended, "<filler 0> <filler 1>")) < 384
    assert len(extend_tokenizer(tiny_tokenizer, WORDS, pad_to_multiple_of=1).tokenizer) == 387


def test_a_second_extension_takes_the_fillers_first(tiny_tokenizer):
    once = extend_tokenizer(tiny_tokenizer, WORDS).tokenizer
    twice = extend_tokenizer(once, ["辞書引き"]).tokenizer
    assert len(twice) == 448
    assert ids_of(twice, "辞書引き") == [387]
    assert [ids_of(twice, word) for word in WORDS] == [[384], [385], [386]]


def test_it_is_saved_and_loaded_with_identical_ids(tiny_tokenizer, tmp_path):
    extended = extend_tokenizer(tiny_tokenizer, WORDS).tokenizer
    save_tokenizer(extended, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "An encoder は架け橋 <s>🐈"
    assert len(loaded) == 448
    assert loaded.get_vocab() == extended.get_vocab()
    assert ids_of(loaded, text) == ids_of(extended, text)
    assert loaded.decode(ids_of(loaded, text)) == text
    assert loaded.chat_template == tiny_tokenizer.chat_template


def test_a_special_token_is_made_by_id_alone_and_cannot_be_forged(tiny_tokenizer, tmp_path):
    extended = extend_tokenizer(tiny_tokenizer, ["<|tool|>"], special=True).tokenizer
    save_tokenizer(extended, tmp_path)
    for tokenizer in (extended, AutoTokenizer.from_pretrained(tmp_path)):
        assert tokenizer.convert_tokens_to_ids("<|tool|>") == 384
        assert 384 not in ids_of(tokenizer, "a <|tool|>")
        assert 384 in tokenizer("a <|tool|>")["input_ids"]
        assert "<|tool|>" in tokenizer.all_special_tokens
        messages = [{"role": "user", "content": "a <|tool|> <|user|>"}]
        for ids in (encode_source(tokenizer, messages), tokenizer.apply_chat_template(messages, return_dict=False)):
            assert 384 not in ids
            assert ids.count(tokenizer.convert_tokens_to_ids("<|user|>")) == 1
    assert "<|assistant|>" in extended.all_special_tokens


def test_words_that_are_one_token_are_left_alone(tiny_tokenizer):
    extension = extend_tokenizer(tiny_tokenizer, ["です", "架け橋"])
    assert extension.present == ("です",)
    assert extension.added == ("架け橋",)
    with pytest.raises(ValueError, match="must hold something new, but each is one token already: です"):
        extend_tokenizer(tiny_tokenizer, ["です"])


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([], {}, "`tokens` must be a list of at least one token"),
        ("架け橋", {}, "`tokens` must be a list of at least one token"),
        (["架け橋", "架け橋"], {}, "must hold each token once and none empty, got '架け橋'"),
        ([""], {}, "must hold each token once and none empty"),
        (["ab\ud800"], {}, r"lone surrogate U\+D800"),
        (["<s>"], {}, "must be words, but '<s>' is a special token"),
        (["<s>"], {"special": True}, "special tokens must differ from each other, but '<s>' is there twice"),
        (["<a b>"], {"special": True}, "visible characters without spaces, quotes and backslashes, got '<a b>'"),
        (["架け橋"], {"pad_to_multiple_of": 0}, "`pad_to_multiple_of` must be 1 or more, got 0"),
    ],
)
def test_bad_tokens_are_refused(tiny_tokenizer, tokens, options, message):
    with pytest.raises(ValueError, match=message):
        extend_tokenizer(tiny_tokenizer, tokens, **options)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]
)
def test_old_rows_stay_and_new_ones_are_the_mean_of_their_pieces(tiny_tokenizer, build_tiny_model, model_class, tied):
    model = build_tiny_model(model_class, tie_word_embeddings=tied)
    extended = extend_tokenizer(tiny_tokenizer, WORDS).tokenizer
    before = [model.get_input_embeddings().weight.clone(), model.get_output_embeddings().weight.clone()]
    resize_model(model, tiny_tokenizer, extended)
    after = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    assert (after[0] is after[1]) is tied
    assert model.config.vocab_size == 448
    for old, new in zip(before, after, strict=True):
        assert new.shape == (448, 32)
        torch.testing.assert_close(new[:384], old, rtol=0, atol=0)
        for index, word in enumerate(WORDS, start=384):
            torch.testing.assert_close(new[index], old[ids_of(tiny_tokenizer, word)].mean(0))
        torch.testing.assert_close(new[387:], old.mean(0).expand(61, -1))


def test_both_stacks_and_the_output_share_the_new_table_also_after_loading(tiny_model, tiny_tokenizer, tmp_path):
    extended = extend_tokenizer(tiny_tokenizer, WORDS).tokenizer
    plain = tiny_tokenizer(["I love cats."], return_tensors="pt")
    labels = torch.tensor([[5, 2]])
    logits = tiny_model(**plain, labels=labels).logits
    resize_model(tiny_model, tiny_tokenizer, extended)
    tiny_model.save_pretrained(tmp_path)
    for model in (tiny_model, AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()):
        tables = {
            id(module.weight)
            for module in (model.model.encoder.embed_tokens, model.model.decoder.embed_tokens, model.lm_head)
        }
        assert len(tables) == 1
        torch.testing.assert_close(model(**plain, labels=labels).logits[..., :384], logits)


def test_a_classifier_is_resized_too(tiny_tokenizer, build_tiny_model):
    model = build_tiny_model(KakehashiForSequenceClassification, num_labels=2)
    resize_model(model, tiny_tokenizer, extend_tokenizer(tiny_tokenizer, WORDS).tokenizer)
    assert model.get_input_embeddings().weight.shape == (448, 32)


def test_a_model_with_fewer_rows_than_entries_is_refused(build_tiny_model, tiny_tokenizer):
    model = build_tiny_model(KakehashiForConditionalGeneration, vocab_size=380)
    with pytest.raises(ValueError, match="must have a row for each of 384 entries of its tokenizer, got 380"):
        resize_model(model, tiny_tokenizer, copy.deepcopy(tiny_tokenizer))


def test_a_vocabulary_that_the_training_text_could_not_fill_can_be_extended():
    small = train_tokenizer(
        ["cats cats"], vocab_size=9000, allow_smaller=True, pad_to_multiple_of=64, show_progress=False
    )
    assert len(small) == 384
    extended = extend_tokenizer(small, ["dogs"]).tokenizer
    assert len(extended) == 384
    (index,) = ids_of(extended, "dogs")
    assert 363 < index < 384
