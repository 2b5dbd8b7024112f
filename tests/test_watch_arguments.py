"""Bounds of the keys that say how a run is watched."""

import pytest

from kakehashi.training.arguments import ClassifyArguments, InstructArguments
from kakehashi.training.watch_arguments import SampleArguments, WatchArguments


def test_every_stage_may_stop_early_and_only_instruct_answers():
    assert isinstance(ClassifyArguments(early_stopping_patience=3), WatchArguments)
    assert isinstance(InstructArguments(sample_steps=5), SampleArguments)
    assert not isinstance(ClassifyArguments(), SampleArguments)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sample_rows": -1}, "`sample_rows` must not be negative, got -1"),
        ({"sample_steps": 0}, "`sample_steps` must be at least 1, got 0"),
        ({"sample_prompts": ["Hi", " "]}, "`sample_prompts` must hold texts, got ' '"),
        ({"early_stopping_patience": 0}, "`early_stopping_patience` must be at least 1, got 0"),
    ],
)
def test_values_out_of_bounds_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        InstructArguments(**keys)
