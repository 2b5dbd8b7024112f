import random

import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from kakehashi.tokenization.merges import Merge, stage_of, trace_merges


def test_merges_lead_from_bytes_to_the_tokens_that_the_tokenizer_gives(tiny_tokenizer, tiny_sentences):
    rng = random.Random(0)
    texts = [
        *tiny_sentences,
        "aaaa bananas",
        "<s>🐈",
        *("".join(rng.choices("Ilove cats。猫が好き12", k=20)) for _ in range(99)),
    ]
    for text in texts:
        traces = trace_merges(tiny_tokenizer, text)
        assert b"".join(trace.content for trace in traces) == text.encode()
        tokens = [token for trace in traces for token in trace.tokens]
        ids = tiny_tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert len(tokens) == len(ids)
        assert [tiny_tokenizer.decode([index]) for index in ids] == [
            token.decode("utf-8", "replace") for token in tokens
        ]


def test_each_step_joins_two_neighbours_of_the_step_before(tiny_tokenizer):
    (trace,) = trace_merges(tiny_tokenizer, "です")
    assert trace.tokens == ("です".encode(),)
    before = tuple(bytes([byte]) for byte in "です".encode())
    for merge in trace.merges:
        assert merge.joined in merge.pieces
        assert b"".join(merge.pieces) == b"".join(before)
        assert len(merge.pieces) < len(before)
        before = merge.pieces
    assert trace.merges[-1].joined == "です".encode()


def test_a_piece_never_seen_stays_in_bytes(tiny_tokenizer):
    (trace,) = trace_merges(tiny_tokenizer, "🐈")
    assert trace.merges == ()
    assert trace.tokens == tuple(bytes([byte]) for byte in "🐈".encode())


def test_an_added_token_is_found_whole(tiny_tokenizer):
    import copy

    extended = copy.deepcopy(tiny_tokenizer)
    extended.add_tokens([AddedToken("架け橋", normalized=False)])
    traces = trace_merges(extended, "I love 架け橋.")
    assert [trace.content.decode() for trace in traces] == ["I", " love", " ", "架け橋", "."]
    assert traces[3].merges == ()


@pytest.mark.parametrize(
    ("joined", "whole", "stage"),
    [
        (b"\xe7\x8c", "猫が".encode(), "part of a character"),
        ("猫".encode(), "猫が".encode(), "character"),
        ("好き".encode(), "大好き".encode(), "subword"),
        (b" cats", b" cats", "word"),
    ],
)
def test_a_merge_arrives_at_characters_then_subwords_then_words(joined, whole, stage):
    assert stage_of(joined, whole) == stage


def test_merges_say_what_they_joined():
    assert Merge(1, b"a", b"b", (b"ab",)).joined == b"ab"


def test_another_model_is_refused():
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"cat": 0}, unk_token="cat")))
    with pytest.raises(ValueError, match="must be a byte-level BPE to show its merges, got WordLevel"):
        trace_merges(words, "cat")
