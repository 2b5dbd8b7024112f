"""The picture of a run: training and validation loss over steps, with learning rate and tokens per second below."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kakehashi.training.run_files import PICTURE, put_file

# Drawing takes this long the first time, mostly to load the library.
_FIRST_SECONDS = 0.5
# So much of a run's time may go into pictures.
_SHARE_OF_TIME = 0.02


def plot_curves(log_history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the losses, the learning rate and the tokens per second of a run.

    Args:
        log_history: Trainer's log: entries with `step` and `loss`, `learning_rate`, `tokens_per_second` or
            `eval_loss`.
        path: PNG file to write.
    """
    # The object interface without pyplot: no window system and no state that outlives the call.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    losses, rates, speeds = figure.subplots(3, 1, sharex=True, height_ratios=[3, 1, 1])
    _draw(losses, log_history, "loss", "training", "tab:blue", "")
    _draw(losses, log_history, "eval_loss", "validation", "tab:orange", "o")
    _draw(rates, log_history, "learning_rate", "learning rate", "tab:green", "")
    _draw(speeds, log_history, "tokens_per_second", "tokens per second", "tab:purple", "")
    losses.set_ylabel("loss")
    losses.legend()
    rates.set_ylabel("learning rate")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    speeds.set_ylabel("tokens/s")
    speeds.set_ylim(bottom=0)
    speeds.set_xlabel("step")
    for axes in (losses, rates, speeds):
        axes.grid(alpha=0.3)
    figure.savefig(path)


def _draw(axes: Any, log_history: Sequence[Mapping[str, Any]], key: str, label: str, colour: str, marker: str) -> None:
    points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
    # A single point has no line to be seen by.
    marker = marker or ("o" if len(points) == 1 else "")
    steps, values = [step for step, _ in points], [value for _, value in points]
    axes.plot(steps, values, marker=marker, color=colour, label=label)


class CurvePlotter(TrainerCallback):
    """Draws the picture anew at validations and checkpoints, so that people can look while the run goes on.

    It is left out where it would take more than a fiftieth of the time: with validations every few seconds, most are.
    """

    def __init__(self) -> None:
        self._due = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets the earliest time of the first picture."""
        self._due = time.monotonic() + _FIRST_SECONDS / _SHARE_OF_TIME

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draws the curves with the new validation."""
        self._plot(args, state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Draws the curves up to the checkpoint."""
        self._plot(args, state)

    def _plot(self, args: TrainingArguments, state: TrainerState) -> None:
        start = time.monotonic()
        if start < self._due or not state.is_world_process_zero or args.output_dir is None:
            return
        # For lack of room for a picture no run should end; a checkpoint will say so.
        with suppress(OSError):
            put_file(Path(args.output_dir), PICTURE, lambda path: plot_curves(state.log_history, path))
        end = time.monotonic()
        self._due = end + (end - start) / _SHARE_OF_TIME
