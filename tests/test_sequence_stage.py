import pytest
from datasets import Dataset
from transformers import Seq2SeqTrainingArguments, T5Config

from kakehashi.training.arguments import InstructArguments
from kakehashi.training.packing import measure_sequences
from kakehashi.training.sequence_stage import pack_for_training, repeat_stream, require_packable


@pytest.fixture
def training_arguments(tmp_path):
    return Seq2SeqTrainingArguments(tmp_path, use_cpu=True)


def make_pairs():
    return Dataset.from_dict({"input_ids": [[5, 6, 2]] * 40, "labels": [[7, 2]] * 40})


def test_rows_hold_two_of_the_longest_sources_and_their_use_is_told(training_arguments, capsys):
    arguments = InstructArguments(packing=True)
    measure = measure_sequences("input_ids", "labels")
    rows = pack_for_training(make_pairs(), arguments, training_arguments, measure=measure, longest=(15, 10))
    assert [len(row["input_ids"]) for row in rows] == [30] * 4
    assert "packed 40 examples into 4 rows of 30 + 20 tokens, 100.0% of the room used" in capsys.readouterr().err


def test_a_recipe_may_name_the_length_of_rows(training_arguments):
    arguments = InstructArguments(packing=True, packed_length=6)
    measure = measure_sequences("input_ids", "labels")
    rows = pack_for_training(make_pairs(), arguments, training_arguments, measure=measure, longest=(15, 10))
    assert len(rows) == 20


def test_a_stream_starts_anew_at_its_end():
    stream = repeat_stream(make_pairs().to_iterable_dataset())
    assert len(list(stream.take(100))) == 100
    pairs = make_pairs()
    assert repeat_stream(pairs) is pairs


def test_only_models_that_keep_segments_apart_are_packed_for(tiny_config):
    require_packable(InstructArguments(packing=True), tiny_config)
    require_packable(InstructArguments(), T5Config())
    with pytest.raises(
        ValueError, match=r"`packing` needs a model that keeps the examples .* got a model of type 't5'"
    ):
        require_packable(InstructArguments(packing=True), T5Config())
