"""The picture of a run: training and validation loss over steps, with the learning rate below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_curves(log_history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the losses and the learning rate of a run.

    Args:
        log_history: Trainer's log: entries with `step` and `loss`, `learning_rate` or `eval_loss`.
        path: PNG file to write.
    """
    # The object interface without pyplot: no window system and no state that outlives the call.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _draw(losses, log_history, "loss", "training", "tab:blue", "")
    _draw(losses, log_history, "eval_loss", "validation", "tab:orange", "o")
    _draw(rates, log_history, "learning_rate", "learning rate", "tab:green", "")
    losses.set_ylabel("loss")
    losses.legend()
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (losses, rates):
        axes.grid(alpha=0.3)
    figure.savefig(path)


def _draw(axes: Any, log_history: Sequence[Mapping[str, Any]], key: str, label: str, colour: str, marker: str) -> None:
    points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
    # A single point has no line to be seen by.
    marker = marker or ("o" if len(points) == 1 else "")
    steps, values = [step for step, _ in points], [value for _, value in points]
    axes.plot(steps, values, marker=marker, color=colour, label=label)
