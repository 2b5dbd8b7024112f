"""Lengths before cutting, as the rows have them."""

import pytest
from datasets import Dataset

from kakehashi.training.examples import tokenize_classification, tokenize_instructions
from kakehashi.training.length_statistics import take_lengths


def test_quantiles_are_lengths_that_occur_and_the_cut_ones_are_counted(capsys):
    examples = Dataset.from_dict({"input_ids": [[1]] * 11, "source_length": list(range(1, 12))})
    examples, numbers = take_lengths(examples, source=10)
    assert examples.column_names == ["input_ids"]
    assert numbers == {
        "source_length_p50": 6,
        "source_length_p95": 11,
        "source_length_p99": 11,
        "source_length_max": 11,
        "cut_sources": pytest.approx(1 / 11),
    }
    told = capsys.readouterr().err
    assert told.strip() == (
        "sources: half have at most 6 tokens, 95 % 11, 99 % 11, all 11; 9.09% are longer than 10 and cut"
    )


@pytest.mark.parametrize("is_encoder_decoder", [True, False])
def test_instructions_and_answers_are_measured_whole(tiny_tokenizer, is_encoder_decoder):
    rows = Dataset.from_dict({"prompt": ["cats " * 20, "cats", ""], "completion": ["a", "dogs " * 9, "b"]})

    def tokenize(longest, **options):
        lengths = {"max_source_length": longest, "max_target_length": longest}
        return tokenize_instructions(rows, tiny_tokenizer, is_encoder_decoder=is_encoder_decoder, **lengths, **options)

    whole, cut = tokenize(200), tokenize(8, keep_lengths=True)
    assert whole.column_names == ["input_ids", "labels"]
    own = [
        (len(each["input_ids"]), len(each["labels"]))
        if is_encoder_decoder
        else (each["labels"].count(-100), len(each["labels"]) - each["labels"].count(-100))
        for each in whole
    ]
    assert list(zip(cut["source_length"], cut["target_length"], strict=True)) == own
    examples, numbers = take_lengths(cut, source=8, target=8)
    assert examples.column_names == ["input_ids", "labels"]
    assert numbers["source_length_max"] == max(length for length, _ in own)
    assert numbers["cut_sources"] == numbers["cut_targets"] == 0.5


def test_texts_to_classify_are_measured_whole(tiny_tokenizer):
    rows = Dataset.from_dict({"text": ["x" * 50, "ok"], "label": ["0", "1"]})
    names = {"label_names": ["0", "1"]}
    whole = tokenize_classification(rows, tiny_tokenizer, max_length=100, **names)
    cut = tokenize_classification(rows, tiny_tokenizer, max_length=8, keep_lengths=True, **names)
    assert cut["source_length"][:] == [len(ids) for ids in whole["input_ids"]]
    assert max(map(len, cut["input_ids"])) == 8
    assert take_lengths(cut, source=8)[1]["cut_sources"] == 0.5
