"""The bar on a terminal, the lines without one, and what else is written beside them."""

import io
import logging
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from kakehashi.training.callbacks import TimeBudget
from kakehashi.training.progress import ProgressBar, readable_numbers

LOGS = {"loss": 5.2134, "learning_rate": 0.018, "tokens_per_second": 12345.4, "model_flops_utilization": 0.3117}
SHOWN = "loss 5.213  lr 1.8e-02  12,345 tok/s  MFU 31.2%"


@pytest.fixture
def arguments(tmp_path):
    return TrainingArguments(output_dir=str(tmp_path))


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=140, color_system=None, highlight=False)


def run_steps(bar, arguments, steps=3, first=True, middle=lambda: None):
    state = TrainerState(max_steps=4, global_step=0, is_world_process_zero=first, stateful_callbacks=[])
    control = TrainerControl()
    bar.on_train_begin(arguments, state, control)
    for _ in range(steps):
        state.global_step += 1
        bar.on_log(arguments, state, control, logs=dict(LOGS))
        bar.on_step_end(arguments, state, control)
        middle()
    for _ in range(2):
        bar.on_prediction_step(arguments, state, control, eval_dataloader=[1, 2])
    bar.on_log(arguments, state, control, logs={"eval_loss": 4.25, "eval_accuracy": 0.5})
    bar.on_evaluate(arguments, state, control)
    bar.on_train_end(arguments, state, control)


def test_a_terminal_shows_a_bar_with_the_newest_numbers_and_one_for_validation(arguments, terminal, capsys):
    bar = ProgressBar(console=terminal)
    run_steps(bar, arguments, middle=lambda: setattr(bar._display, "_drawn", 0.0))
    drawn = terminal.file.getvalue()
    assert "train" in drawn and "3/4" in drawn and SHOWN in drawn
    assert "left" in drawn
    assert "validate" in drawn
    # A line of the validation stays above the bar.
    assert f"step 3/4  {SHOWN}  val_loss 4.250  accuracy 0.500" in drawn
    assert not capsys.readouterr().err


def test_without_a_terminal_each_log_is_one_line_and_nothing_else_is_written(arguments, capsys):
    run_steps(ProgressBar(), arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/4", "step 2/4", "step 3/4", "step 3/4"]
    assert all(SHOWN in line for line in lines)
    assert lines[1].endswith("0:00:00 left")
    assert lines[3].endswith("val_loss 4.250  accuracy 0.500")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_only_the_first_of_several_processes_shows_anything(arguments, terminal, is_terminal, capsys):
    run_steps(ProgressBar(console=terminal if is_terminal else None), arguments, first=False)
    assert terminal.file.getvalue() == ""
    assert capsys.readouterr().err == ""


def test_other_output_goes_above_the_bar_and_streams_are_given_back(arguments, terminal, capsys):
    logger = logging.getLogger("kakehashi.test_progress")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    logger.propagate = False
    before = (sys.stdout, sys.stderr, handler.stream)

    def speak():
        print("said to stderr", file=sys.stderr)
        logger.warning("said by a logger")
        print("said to stdout")

    try:
        run_steps(ProgressBar(console=terminal), arguments, steps=1, middle=speak)
    finally:
        logger.removeHandler(handler)
    assert (sys.stdout, sys.stderr, handler.stream) == before
    captured = capsys.readouterr()
    drawn = terminal.file.getvalue()
    for text in ("said to stderr", "said by a logger"):
        assert any(line.strip().endswith(text) for line in drawn.splitlines())
        assert text not in captured.err
    # Results may go to a file while the bar is on the terminal.
    assert captured.out == "said to stdout\n"


def test_a_time_budget_moves_the_bar_by_its_clock(arguments, terminal):
    budget = SimpleNamespace(progress=0.25, max_minutes=2.0)
    bar = ProgressBar(budget, terminal)
    state = TrainerState(max_steps=0, global_step=7, is_world_process_zero=True, stateful_callbacks=[])
    bar.on_train_begin(arguments, state, TrainerControl())
    bar._display._drawn = 0.0
    bar.on_step_end(arguments, state, TrainerControl())
    drawn = terminal.file.getvalue().splitlines()[-1]
    bar.close()
    assert "7" in drawn and "0:01:30 left" in drawn
    assert bar._share(state) == 0.25
    assert TimeBudget(2.0).progress == 0.0


def test_closing_twice_or_before_opening_does_no_harm(arguments, terminal):
    bar = ProgressBar(console=terminal)
    bar.close()
    state = TrainerState(max_steps=4, is_world_process_zero=True, stateful_callbacks=[])
    stderr = sys.stderr
    bar.on_train_begin(arguments, state, TrainerControl())
    assert sys.stderr is not stderr
    bar.close()
    bar.close()
    assert sys.stderr is stderr


def test_a_validation_alone_opens_and_closes_its_own_bar(arguments, terminal):
    bar = ProgressBar(console=terminal)
    state = TrainerState(is_world_process_zero=True, stateful_callbacks=[])
    bar.on_prediction_step(arguments, state, TrainerControl(), eval_dataloader=[1, 2])
    assert bar._display is not None
    bar.on_evaluate(arguments, state, TrainerControl())
    assert bar._display is None


def test_only_a_few_numbers_are_shown():
    assert readable_numbers({"grad_norm": 1.0, "epoch": 2.0, "train_loss": 1.0}) == {}
    assert readable_numbers({"loss": 1.0}) == {"loss": "loss 1.000"}
