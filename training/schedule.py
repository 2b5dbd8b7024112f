"""Settings of the learning rate's schedule that are shares of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType

DECAY_SHARE = 0.25
"""Share of a run in which warmup–stable–decay decays, if the recipe does not say."""


@contextmanager
def naming_settings(args: TrainingArguments) -> Iterator[None]:
    """Makes one readable error of a setting that the schedule does not know.

    Args:
        args: `lr_scheduler_type` and `lr_scheduler_kwargs`, of which a schedule is made inside.

    Raises:
        ValueError: In place of a TypeError.
    """
    try:
        yield
    except TypeError as error:
        kind = SchedulerType(args.lr_scheduler_type).value
        raise ValueError(
            f"`lr_scheduler_kwargs` must be settings of the schedule {kind}, got {args.lr_scheduler_kwargs}: {error}"
        ) from error


def schedule_settings(
    args: TrainingArguments, num_training_steps: int, *, follows_clock: bool = False
) -> dict[str, Any] | None:
    """Returns `lr_scheduler_kwargs` with `num_decay_steps` in steps, as `get_scheduler` wants it.

    A recipe may give it as a share of the run below 1, like `warmup_steps`, or leave it out.

    Args:
        args: `lr_scheduler_type` and `lr_scheduler_kwargs`.
        num_training_steps: Steps of the whole run.
        follows_clock: Whether the run ends by time, so that only shares are known of it.

    Raises:
        ValueError: If `num_decay_steps` is neither a share nor, where the run ends by steps, whole steps.
    """
    # Text, as a command line gives it, is a mapping by the time the arguments exist.
    settings: Any = args.lr_scheduler_kwargs
    if args.lr_scheduler_type != SchedulerType.WARMUP_STABLE_DECAY:
        return settings
    decay = (settings or {}).get("num_decay_steps", DECAY_SHARE)
    is_number = isinstance(decay, int | float) and not isinstance(decay, bool)
    if not is_number or decay < 0 or (decay >= 1 and decay != int(decay)):
        raise ValueError(
            f"`num_decay_steps` must be a share of the run below 1 or a whole number of steps, got {decay!r}."
        )
    if follows_clock and decay >= 1:
        raise ValueError(
            f"`num_decay_steps` must be a share of the time below 1 where `max_minutes` is given, got {decay}."
        )
    return {**(settings or {}), "num_decay_steps": round(decay * num_training_steps) if decay < 1 else int(decay)}
