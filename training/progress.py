"""How a run shows that it gets on: a bar on a terminal, single lines anywhere else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from kakehashi.training.callbacks import TimeBudget
from kakehashi.training.console import notify

# Seconds between two drawings of the bar; a person reads no faster, and small models step more often.
_REDRAW_SECONDS = 0.2
_BAR_WIDTH = 14


class ProgressBar(TrainerCallback):
    """Shows step, loss, learning rate, tokens per second, utilisation and the time left; validation has its own bar.

        train    ━━━━━━╺━━━━━━━ 160/400  loss 5.213  lr 1.8e-02  12,345 tok/s  MFU 31.2 %   0:01:10 left
        validate ━━━━━━━━━━━╺━━ 12/16

    Where stderr is no terminal, such as a log file, each log of Trainer becomes one line and nothing else is written.
    Of several processes only the first one shows anything.

    Args:
        budget: The run's time budget, which the bar then follows; `None` follows the steps.
        console: Where to draw; `None` means stderr.
    """

    def __init__(self, budget: TimeBudget | None = None, console: Console | None = None) -> None:
        self._budget = budget
        self._console = Console(stderr=True, highlight=False) if console is None else console
        self._display: _Display | None = None
        self._train: TaskID | None = None
        self._validation: TaskID | None = None
        self._shown: dict[str, str] = {}
        self._start = (0, 0.0)

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal to draw on."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the bar."""
        self._start = (state.global_step, time.monotonic())
        if state.is_world_process_zero and self.is_live:
            self._train = self._open().add_task("train", total=1.0, place=self._place(state), numbers="", left="")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Moves the bar."""
        if self._display is not None and self._train is not None:
            fields = {"place": self._place(state), "numbers": "  ".join(self._shown.values())}
            self._display.move(self._train, self._share(state), left=self._time_left(state), **fields)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Shows the newest numbers beside the bar; keeps a line of every validation, without a bar of every log."""
        shown = readable_numbers(kwargs["logs"])
        if not state.is_world_process_zero or not shown:
            return
        self._shown.update(shown)
        is_validation = "validation" in shown or "accuracy" in shown
        if self._train is None or is_validation:
            left = "" if is_validation or not state.max_steps else self._time_left(state)
            words = [f"step {self._place(state)}", *(self._shown if is_validation else shown).values(), left]
            notify("  ".join(filter(None, words)))

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Moves the validation bar, opening it first if need be."""
        loader: Any = kwargs.get("eval_dataloader")
        if not state.is_world_process_zero or not self.is_live or not has_length(loader):
            return
        display = self._open()
        if self._validation is None:
            self._validation = display.add_task("validate", total=len(loader), place="", numbers="", left="")
        done = display.completed(self._validation) + 1
        display.move(self._validation, done, place=f"{done:.0f}/{len(loader)}")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the validation bar."""
        self._close_validation()

    def on_predict(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Closes the validation bar."""
        self._close_validation()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the bar, which stays where it ended."""
        if self._display is not None and self._train is not None:
            fields = {"place": self._place(state), "numbers": "  ".join(self._shown.values()), "left": ""}
            self._display.move(self._train, self._share(state), **fields)
        self.close()

    def close(self) -> None:
        """Closes what is open, also after an error."""
        if self._display is not None:
            self._display.close()
        self._display = self._train = self._validation = None

    def _open(self) -> _Display:
        if self._display is None:
            self._display = _Display(self._console)
        return self._display

    def _close_validation(self) -> None:
        if self._display is None or self._validation is None:
            return
        self._display.remove_task(self._validation)
        self._validation = None
        if self._train is None:
            self.close()

    def _place(self, state: TrainerState) -> str:
        # With a time budget the number of steps is only a bound.
        return str(state.global_step) if self._budget is not None else f"{state.global_step}/{state.max_steps}"

    def _share(self, state: TrainerState) -> float:
        """Returns how much of the run is done, 0 to 1."""
        of_steps = state.global_step / state.max_steps if state.max_steps else 0.0
        return of_steps if self._budget is None else max(of_steps, self._budget.progress)

    def _time_left(self, state: TrainerState) -> str:
        step, start = self._start
        done = state.global_step - step
        estimates = []
        if done > 0:
            estimates.append((time.monotonic() - start) / done * (state.max_steps - state.global_step))
        if self._budget is not None:
            estimates.append(60 * self._budget.max_minutes * (1 - self._budget.progress))
        return f"{timedelta(seconds=round(min(estimates)))} left" if estimates else ""


class _Display:
    """Bars at the bottom of the terminal that let everything else be written above them."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(_BAR_WIDTH),
            TextColumn("{task.fields[place]}", table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            console=console,
            # Drawn when something moves: a thread of its own would be forked along with the loaders of data.
            auto_refresh=False,
            # What goes to a file or a pipe has to arrive there.
            redirect_stdout=sys.stdout.isatty(),
        )
        stream = sys.stderr
        self._progress.start()
        self._drawn = 0.0
        # Loggers hold on to the stream that they were made with.
        self._handlers = [(handler, stream) for handler in _stream_handlers() if handler.stream is stream]
        for handler, _ in self._handlers:
            handler.setStream(sys.stderr)

    def add_task(self, description: str, total: float, **fields: Any) -> TaskID:
        task = self._progress.add_task(description, total=total, **fields)
        self._draw()
        return task

    def completed(self, task: TaskID) -> float:
        return next(each.completed for each in self._progress.tasks if each.id == task)

    def move(self, task: TaskID, completed: float, **fields: Any) -> None:
        self._progress.update(task, completed=completed, **fields)
        if time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._draw()

    def remove_task(self, task: TaskID) -> None:
        self._progress.remove_task(task)
        self._draw()

    def _draw(self) -> None:
        self._progress.refresh()
        self._drawn = time.monotonic()

    def close(self) -> None:
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._progress.stop()


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    """Returns every handler of every logger that writes to a stream."""
    loggers = [logging.root, *logging.Logger.manager.loggerDict.values()]
    handlers = [handler for each in loggers if isinstance(each, logging.Logger) for handler in each.handlers]
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]


def readable_numbers(logs: Mapping[str, Any]) -> dict[str, str]:
    """Returns the few logged numbers worth a place beside the bar, each with its name.

    Args:
        logs: An entry of Trainer's log.
    """
    shown = {}
    if "loss" in logs:
        shown["loss"] = f"loss {logs['loss']:.3f}"
    if "learning_rate" in logs:
        shown["learning_rate"] = f"lr {logs['learning_rate']:.1e}"
    if "tokens_per_second" in logs:
        shown["tokens"] = f"{logs['tokens_per_second']:,.0f} tok/s"
    if "model_flops_utilization" in logs:
        shown["utilization"] = f"MFU {logs['model_flops_utilization']:.1%}"
    if "eval_loss" in logs:
        shown["validation"] = f"val_loss {logs['eval_loss']:.3f}"
    # The first score of each kind of labels.
    for name in ("accuracy", "micro_f1", "pearson"):
        if f"eval_{name}" in logs:
            shown["accuracy"] = f"{name} {logs[f'eval_{name}']:.3f}"
    return shown
