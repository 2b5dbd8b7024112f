"""What may end a run: numbers that are not finite, a signal, a time budget."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_scheduler,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from kakehashi.training.processes import from_first, is_any, is_first_process, same_everywhere
from kakehashi.training.schedule import naming_settings, schedule_settings

# Resolution of a schedule that follows time: it is laid out over so many imagined steps.
_SCHEDULE_STEPS = 100_000


def saved_state(callback: ExportableState, state: TrainerState) -> dict[str, Any]:
    """Returns what a checkpoint kept of a callback, and makes room where the checkpoint knows nothing of it.

    Args:
        callback: Whose `args` and `attributes` are asked for.
        state: Trainer's state, read from the checkpoint on resuming.
    """
    # Trainer adds to this entry when it saves and fails if a resumed state lacks it.
    states: Any = state.stateful_callbacks
    return states.setdefault(type(callback).__name__, callback.state())


class NonFiniteGuard(TrainerCallback):
    """Stops a run before a loss or gradient that is not finite reaches the weights."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checks the gradients of the step; a loss that is NaN makes them NaN."""
        # In float16 the scaler looks for the largest factor by letting gradients overflow; it leaves such steps out.
        if args.fp16:
            return
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # Sharded gradients have a norm in parts.
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if not torch.isfinite(norm):
            raise same_everywhere(_non_finite("gradient", state))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Checks the loss; an infinite one may leave gradients finite."""
        if not math.isfinite(kwargs["logs"].get("loss", 0.0)):
            raise same_everywhere(_non_finite("loss", state))


def _non_finite(what: str, state: TrainerState) -> ValueError:
    return ValueError(
        f"the {what} is not finite at step {state.global_step + (what == 'gradient')}; training stopped before the "
        "next checkpoint. A lower `learning_rate` or a longer `warmup_steps` may help, in a fresh start or with "
        "--overwrite true: --resume goes on with the rate that the run began with"
    )


class Interruption(TrainerCallback):
    """Ends a run in good order on Ctrl-C or SIGTERM: finish the step, save a checkpoint, stop.

    A second signal stops at once.

    Attributes:
        has_stopped: Whether the run ends because of a signal, as all processes have agreed at the end of a step. One
            that arrives later, while the last step is validated or saved, no longer keeps the run from its end.
    """

    def __init__(self) -> None:
        self.has_stopped = False
        self._is_requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_requested:
            raise KeyboardInterrupt
        self._is_requested = True
        # A signal may arrive inside the bar's own printing, so write past it.
        stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        if is_first_process():
            # Whoever reads it may have ended by the same Ctrl-C, as `tee` does.
            with suppress(OSError):
                stderr.write(f"\n{signal.Signals(number).name}: finishing this step, then saving a checkpoint …\n")

    def __enter__(self) -> Interruption:
        # Python delivers signals to the main thread only; elsewhere the run belongs to someone else's program.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Saves and stops once a signal has arrived, in whichever process; a validation is made up for on resuming."""
        # All processes have to leave after the same step, and the signal reaches each at its own time.
        self.has_stopped = is_any(self._is_requested, args.device)
        if self.has_stopped:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keeps the end of the loop from validating or saving once more."""
        if self.has_stopped:
            control.should_save = control.should_evaluate = False


def lacks_validation(args: TrainingArguments, state: TrainerState) -> bool:
    """Returns whether a validation was due at the present step that was not made, because a signal came first.

    Args:
        args: Trainer's arguments.
        state: As the checkpoint has it.
    """
    if state.global_step == 0 or args.eval_delay:
        return False
    if args.eval_strategy == IntervalStrategy.STEPS:
        is_due = state.global_step % state.eval_steps == 0
    else:
        is_due = args.eval_strategy == IntervalStrategy.EPOCH and float(state.epoch or 0.5).is_integer()
    validated = {entry["step"] for entry in state.log_history if any(name.startswith("eval_") for name in entry)}
    return is_due and state.global_step not in validated


class TimeBudget(TrainerCallback, ExportableState):
    """Ends a run after so many minutes of wall-clock and leads the learning rate to its end by then.

    Time counts from the first step on and includes validation and checkpoints; after a resumption it goes on from
    where the checkpoint stood.
    """

    def __init__(self, max_minutes: float, elapsed_seconds: float = 0.0) -> None:
        self.max_minutes = max_minutes
        self._before_seconds = elapsed_seconds
        self._start: float | None = None
        self._max_steps: int | None = None
        # Step and progress when the schedule last looked at the clock.
        self._reading: tuple[int, float] | None = None

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of the clock."""
        return {"args": {"max_minutes": self.max_minutes, "elapsed_seconds": self.elapsed_seconds}, "attributes": {}}

    @property
    def elapsed_seconds(self) -> float:
        """Seconds used so far, those before a resumption included."""
        return self._before_seconds + (0.0 if self._start is None else time.monotonic() - self._start)

    @property
    def progress(self) -> float:
        """Share of the time used, 1 at most."""
        return min(1.0, self.elapsed_seconds / (60 * self.max_minutes))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock, from the checkpoint's time if there is one."""
        self._before_seconds = saved_state(self, state)["args"].get("elapsed_seconds", 0.0)
        self._start = time.monotonic()
        self._max_steps = state.max_steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stops when the time is up, with a last validation and checkpoint where these follow steps."""
        # What the schedule saw decides, so that the learning rate is at its end when the run is.
        progress = self.progress if self._reading is None else self._reading[1]
        if progress < 1.0:
            return
        control.should_training_stop = True
        control.should_save |= args.save_strategy == SaveStrategy.STEPS
        control.should_evaluate |= args.eval_strategy == IntervalStrategy.STEPS

    def make_scheduler(self, args: TrainingArguments, optimizer: Optimizer) -> LambdaLR:
        """Returns the recipe's learning rate schedule, laid out over time in place of steps.

        The schedule's place is the share of time or the share of steps used, whichever is larger, so that it reaches
        its end however the run ends. Whole `warmup_steps` stay steps, a fraction is one of the time; the decay of
        warmup–stable–decay is always a share, see `schedule_settings`.

        Args:
            args: Gives `lr_scheduler_type`, its settings and `warmup_steps`.
            optimizer: Whose learning rate is set.

        Raises:
            ValueError: If the schedule is not a function of the step alone, or its decay is given in steps.
        """
        settings = schedule_settings(args, _SCHEDULE_STEPS, follows_clock=True)
        warmup_share = args.warmup_steps if args.warmup_steps < 1 else 0.0
        with naming_settings(args):
            laid_out = get_scheduler(
                args.lr_scheduler_type,
                optimizer=optimizer,
                num_warmup_steps=round(warmup_share * _SCHEDULE_STEPS),
                num_training_steps=_SCHEDULE_STEPS,
                scheduler_specific_kwargs=settings,
            )
        if not isinstance(laid_out, LambdaLR):
            raise ValueError(f"`lr_scheduler_type` must not be {args.lr_scheduler_type} where `max_minutes` is given")
        factor_at = laid_out.lr_lambdas[0]

        # A plain function, because LambdaLR stores every other callable in the checkpoint.
        def factor(step: int) -> float:
            # One look at the clock for all parameter groups of a step.
            if self._reading is None or self._reading[0] != step:
                self._reading = (step, from_first(self.progress, args.device))
            place = max(self._reading[1], min(1.0, step / self._max_steps) if self._max_steps else 0.0)
            warmup = 1.0 if args.warmup_steps < 1 else min(1.0, (step + 1) / args.warmup_steps)
            return warmup * factor_at(int(place * _SCHEDULE_STEPS))

        for group in optimizer.param_groups:
            # Laying it out has set the rate of its first step already.
            group["lr"] = group["initial_lr"]
        return LambdaLR(optimizer, factor)
