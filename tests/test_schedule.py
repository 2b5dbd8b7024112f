"""Shares of a run become steps of its schedule."""

import pytest
import torch
from transformers import Seq2SeqTrainingArguments
from transformers.trainer_utils import SchedulerType

from kakehashi.modeling import KakehashiForConditionalGeneration
from kakehashi.training.schedule import schedule_settings
from kakehashi.training.trainer import RepeatableTrainer


@pytest.fixture
def training_arguments(tmp_path):
    return Seq2SeqTrainingArguments(output_dir=str(tmp_path), warmup_steps=0, report_to=[])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (None, {"num_decay_steps": 25}),
        ({"decay_type": "linear"}, {"num_decay_steps": 25, "decay_type": "linear"}),
        ({"num_decay_steps": 0.1}, {"num_decay_steps": 10}),
        ({"num_decay_steps": 40}, {"num_decay_steps": 40}),
        ({"num_decay_steps": 0}, {"num_decay_steps": 0}),
    ],
)
def test_the_decay_is_a_share_or_steps(training_arguments, settings, expected):
    training_arguments.lr_scheduler_type = SchedulerType.WARMUP_STABLE_DECAY
    training_arguments.lr_scheduler_kwargs = settings
    assert schedule_settings(training_arguments, 100) == expected


@pytest.mark.parametrize("decay", [1.5, -1, "many", True])
def test_other_decays_are_refused(training_arguments, decay):
    training_arguments.lr_scheduler_type = SchedulerType.WARMUP_STABLE_DECAY
    training_arguments.lr_scheduler_kwargs = {"num_decay_steps": decay}
    with pytest.raises(ValueError, match="`num_decay_steps` must be a share of the run below 1 or a whole number"):
        schedule_settings(training_arguments, 100)


def test_other_schedules_keep_their_settings(training_arguments):
    training_arguments.lr_scheduler_kwargs = {"num_cycles": 2}
    assert schedule_settings(training_arguments, 100) == {"num_cycles": 2}


def test_a_run_bounded_by_steps_decays_at_its_end(build_tiny_model, training_arguments):
    training_arguments.lr_scheduler_type = SchedulerType.WARMUP_STABLE_DECAY
    training_arguments.lr_scheduler_kwargs = {"num_decay_steps": 0.2, "decay_type": "linear"}
    training_arguments.learning_rate = 1.0
    trainer = RepeatableTrainer(model=build_tiny_model(KakehashiForConditionalGeneration), args=training_arguments)
    parameter = torch.nn.Parameter(torch.zeros(1))
    scheduler = trainer.create_scheduler(100, torch.optim.SGD([parameter], lr=1.0))
    factor = scheduler.lr_lambdas[0]
    assert [factor(step) for step in (50, 80, 90, 100)] == pytest.approx([1.0, 1.0, 0.5, 0.0])


def test_a_setting_that_a_schedule_does_not_know_is_one_readable_error(training_arguments):
    training_arguments.lr_scheduler_type = "cosine"
    training_arguments.lr_scheduler_kwargs = {"num_cycle": 2}
    trainer = RepeatableTrainer(torch.nn.Linear(2, 2), training_arguments)
    with pytest.raises(
        ValueError, match=r"`lr_scheduler_kwargs` must be settings of the schedule cosine, got .*num_c"
    ):
        trainer.create_scheduler(10, torch.optim.SGD(trainer.model.parameters(), lr=1.0))
