"""What may end a run: guards, signals and the clock, each by itself."""

import signal
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SchedulerType

from kakehashi.training.callbacks import Interruption, NonFiniteGuard, TimeBudget


@pytest.fixture
def training_arguments(tmp_path):
    return TrainingArguments(
        output_dir=str(tmp_path), learning_rate=1.0, lr_scheduler_type="linear", warmup_steps=0, eval_strategy="steps"
    )


@pytest.fixture
def state():
    return TrainerState(max_steps=1000, stateful_callbacks=[TrainerControl()])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(value, training_arguments, state):
    model = torch.nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[0.0, value]])
    state.global_step = 6
    with pytest.raises(ValueError, match=r"the gradient is not finite at step 7.*--overwrite true: --resume goes on"):
        NonFiniteGuard().on_pre_optimizer_step(training_arguments, state, TrainerControl(), model=model)


def test_a_loss_that_is_not_finite_stops_at_the_log(training_arguments, state):
    state.global_step = 50
    guard = NonFiniteGuard()
    guard.on_log(training_arguments, state, TrainerControl(), logs={"eval_loss": 1.0})
    with pytest.raises(ValueError, match="the loss is not finite at step 50"):
        guard.on_log(training_arguments, state, TrainerControl(), logs={"loss": float("inf")})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_and_a_second_one_stops_at_once(number, training_arguments, state, capsys):
    before = signal.getsignal(number)
    control = TrainerControl(should_evaluate=True)
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        interruption.on_step_end(training_arguments, state, control)
        assert not control.should_training_stop
        signal.raise_signal(number)
        interruption.on_step_end(training_arguments, state, control)
        assert (control.should_save, control.should_training_stop, control.should_evaluate) == (True, True, False)
        signal.raise_signal(number)
    assert signal.getsignal(number) is before
    assert f"{number.name}: finishing this step" in capsys.readouterr().err


def test_a_signal_saves_also_where_nobody_reads_any_more(training_arguments, state, monkeypatch):
    def break_pipe(_):
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=break_pipe))
    control = TrainerControl()
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        interruption.on_step_end(training_arguments, state, control)
    assert control.should_save and interruption.has_stopped


def test_a_signal_after_the_last_step_of_an_epoch_leaves_the_epochs_checkpoint(training_arguments, state):
    control = TrainerControl(should_save=True, should_evaluate=True)
    with Interruption() as interruption:
        interruption.on_step_end(training_arguments, state, control)
        signal.raise_signal(signal.SIGINT)
        interruption.on_epoch_end(training_arguments, state, control)
        assert (control.should_save, control.should_evaluate) == (True, True)
        assert not interruption.has_stopped
        interruption.on_step_end(training_arguments, state, control)
        interruption.on_epoch_end(training_arguments, state, control)
    assert (control.should_save, control.should_training_stop, interruption.has_stopped) == (False, True, True)


def test_a_gradient_that_overflows_in_float16_is_left_to_the_scaler(training_arguments, state):
    model = torch.nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[0.0, float("inf")]])
    training_arguments.fp16 = True
    NonFiniteGuard().on_pre_optimizer_step(training_arguments, state, TrainerControl(), model=model)


def test_the_learning_rate_follows_the_clock_to_its_end(monkeypatch, training_arguments, state):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.seconds)
    budget = TimeBudget(max_minutes=1.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = budget.make_scheduler(training_arguments, optimizer)
    assert scheduler.get_last_lr() == [1.0]
    control = TrainerControl()
    budget.on_train_begin(training_arguments, state, control)
    for seconds, rate in [(115.0, 0.75), (130.0, 0.5), (160.0, 0.0)]:
        now.seconds = seconds
        optimizer.step()
        scheduler.step()
        assert scheduler.get_last_lr() == pytest.approx([rate], abs=1e-4)
    budget.on_step_end(training_arguments, state, control)
    assert (control.should_training_stop, control.should_save, control.should_evaluate) == (True, True, True)


def test_the_clock_goes_on_from_the_checkpoint_and_steps_bound_it(monkeypatch, training_arguments):
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    state = TrainerState(max_steps=4, stateful_callbacks=[TimeBudget(1.0, elapsed_seconds=15.0)])
    budget = TimeBudget(max_minutes=1.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = budget.make_scheduler(training_arguments, optimizer)
    budget.on_train_begin(training_arguments, state, TrainerControl())
    assert budget.progress == 0.25
    rates = []
    for _ in range(4):
        optimizer.step()
        scheduler.step()
        rates.extend(scheduler.get_last_lr())
    assert rates == pytest.approx([0.75, 0.5, 0.25, 0.0], abs=1e-4)


def test_whole_warmup_steps_stay_steps_and_a_fraction_is_one_of_the_time(monkeypatch, training_arguments, state):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.seconds)
    for warmup, expected in [(2, 0.5), (0.5, 0.0)]:
        training_arguments.warmup_steps = warmup
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        assert TimeBudget(1.0).make_scheduler(training_arguments, optimizer).get_last_lr() == [expected]


def test_a_schedule_that_is_no_function_of_the_step_needs_no_clock(training_arguments):
    training_arguments.lr_scheduler_type = "reduce_lr_on_plateau"
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="`lr_scheduler_type` must not be reduce_lr_on_plateau where `max_minutes`"):
        TimeBudget(1.0).make_scheduler(training_arguments, optimizer)


def test_warmup_stable_decay_decays_in_a_share_of_the_time(monkeypatch, training_arguments, state):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.seconds)
    training_arguments.lr_scheduler_type = SchedulerType.WARMUP_STABLE_DECAY
    training_arguments.lr_scheduler_kwargs = {"num_decay_steps": 0.5, "decay_type": "linear"}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    budget = TimeBudget(1.0)
    scheduler = budget.make_scheduler(training_arguments, optimizer)
    budget.on_train_begin(training_arguments, state, TrainerControl())
    for seconds, rate in [(29.0, 1.0), (45.0, 0.5), (60.0, 0.0)]:
        now.seconds = seconds
        optimizer.step()
        scheduler.step()
        assert scheduler.get_last_lr() == pytest.approx([rate], abs=1e-4)
    training_arguments.lr_scheduler_kwargs = {"num_decay_steps": 100}
    with pytest.raises(ValueError, match=r"`num_decay_steps` must be a share of the time below 1 .* got 100"):
        TimeBudget(1.0).make_scheduler(training_arguments, optimizer)


def test_a_setting_that_the_schedule_does_not_know_is_one_readable_error(training_arguments):
    training_arguments.lr_scheduler_kwargs = {"num_cycle": 2}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match=r"`lr_scheduler_kwargs` must be settings of the schedule linear, got \{'n"):
        TimeBudget(1.0).make_scheduler(training_arguments, optimizer)
