"""What watches a run from the side: tokens, non-finite numbers, interruption, a time budget, the progress bar."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_scheduler,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, has_length

from kakehashi.training.console import notify

# Resolution of a schedule that follows time: it is laid out over so many imagined steps.
_SCHEDULE_STEPS = 100_000


class TokenCounter(TrainerCallback, ExportableState):
    """Counts the tokens a model learns from, padding left out, and their rate.

    Trainer's own count sees the source only; here the target of an encoder-decoder counts as well. The rate covers the
    time spent on steps and their data, not that of validation and checkpoints. Logs gain `tokens_per_second` (since
    the last log) and `num_tokens_seen`.
    """

    def __init__(self, num_tokens_seen: int = 0, training_seconds: float = 0.0) -> None:
        self.num_tokens_seen = num_tokens_seen
        self.training_seconds = training_seconds
        self._unread: list[torch.Tensor] = []
        self._mark = 0.0
        self._logged = (0, 0.0)
        self._hook: Any = None

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of the counts."""
        self._read()
        return {
            "args": {"num_tokens_seen": self.num_tokens_seen, "training_seconds": self.training_seconds},
            "attributes": {},
        }

    @property
    def tokens_per_second(self) -> float:
        """Mean rate over the whole run."""
        return self.num_tokens_seen / self.training_seconds if self.training_seconds else 0.0

    def _count(self, module: PreTrainedModel, _: tuple[Any, ...], batch: dict[str, Any]) -> None:
        """Notes the real tokens of a training batch; `_read` adds them up once a log needs them."""
        if not module.training:
            return
        mask = batch.get("attention_mask")
        self._unread.append(mask.sum() if mask is not None else torch.tensor(batch["input_ids"].numel()))
        if module.config.is_encoder_decoder and batch.get("labels") is not None:
            self._unread.append(batch["labels"].ne(-100).sum())

    def _read(self) -> None:
        # Reading a number off an accelerator waits for it, so it happens once per log and not once per step.
        self.num_tokens_seen += sum(int(count) for count in self._unread)
        self._unread = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the counts of the checkpoint, if there is one, and starts to count."""
        saved = _saved_arguments(self, state)
        self.num_tokens_seen = saved.get("num_tokens_seen", 0)
        self.training_seconds = saved.get("training_seconds", 0.0)
        self._logged = (self.num_tokens_seen, self.training_seconds)
        # Asking the compiler for an exemption imports it, which takes seconds: only where it is in use.
        count = torch.compiler.disable(self._count) if args.torch_compile else self._count
        self._hook = kwargs["model"].register_forward_pre_hook(count, with_kwargs=True)
        self._mark = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adds the time of the step."""
        now = time.perf_counter()
        self.training_seconds += now - self._mark
        self._mark = now

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Adds rate and count to what Trainer logs."""
        logs = kwargs["logs"]
        self._read()
        if "loss" not in logs:
            return
        tokens, seconds = self.num_tokens_seen - self._logged[0], self.training_seconds - self._logged[1]
        entry = {
            "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
            "num_tokens_seen": self.num_tokens_seen,
        }
        self._logged = (self.num_tokens_seen, self.training_seconds)
        logs.update(entry)
        state.log_history[-1].update(entry)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the time of validation out."""
        self._mark = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leaves the time of a checkpoint out."""
        self._mark = time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stops counting."""
        self._read()
        self._hook.remove()


def _saved_arguments(callback: ExportableState, state: TrainerState) -> dict[str, Any]:
    """Returns what a checkpoint kept of a callback, and makes room where the checkpoint knows nothing of it."""
    # Trainer adds to this entry when it saves and fails if a resumed state lacks it.
    states: Any = state.stateful_callbacks
    return states.setdefault(type(callback).__name__, callback.state())["args"]


class NonFiniteGuard(TrainerCallback):
    """Stops a run before a loss or gradient that is not finite reaches the weights."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checks the gradients of the step; a loss that is NaN makes them NaN."""
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise _non_finite("gradient", state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Checks the loss; an infinite one may leave gradients finite."""
        if not math.isfinite(kwargs["logs"].get("loss", 0.0)):
            raise _non_finite("loss", state)


def _non_finite(what: str, state: TrainerState) -> ValueError:
    return ValueError(
        f"the {what} is not finite at step {state.global_step + (what == 'gradient')}; training stopped before the "
        "next checkpoint. A lower `learning_rate` or a longer `warmup_steps` may help"
    )


class Interruption(TrainerCallback):
    """Ends a run in good order on Ctrl-C or SIGTERM: finish the step, save a checkpoint, stop.

    A second signal stops at once.

    Attributes:
        is_requested: Whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
        # A signal may arrive inside the bar's own printing, so write past it.
        sys.stderr.write(f"\n{signal.Signals(number).name}: finishing this step, then saving a checkpoint …\n")

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
        """Saves and stops once a signal has arrived."""
        if self.is_requested:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keeps the end of the loop from validating or saving once more."""
        if self.is_requested:
            control.should_save = control.should_evaluate = False


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
        self._before_seconds = _saved_arguments(self, state).get("elapsed_seconds", 0.0)
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
        its end however the run ends. Whole `warmup_steps` stay steps, a fraction is one of the time.

        Args:
            args: Gives `lr_scheduler_type`, its settings and `warmup_steps`.
            optimizer: Whose learning rate is set.

        Raises:
            ValueError: If the schedule is not a function of the step alone.
        """
        # Text, as a command line gives it, is a mapping by the time the arguments exist.
        settings: Any = args.lr_scheduler_kwargs
        warmup_share = args.warmup_steps if args.warmup_steps < 1 else 0.0
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
                self._reading = (step, self.progress)
            place = max(self._reading[1], min(1.0, step / self._max_steps) if self._max_steps else 0.0)
            warmup = 1.0 if args.warmup_steps < 1 else min(1.0, (step + 1) / args.warmup_steps)
            return warmup * factor_at(int(place * _SCHEDULE_STEPS))

        for group in optimizer.param_groups:
            # Laying it out has set the rate of its first step already.
            group["lr"] = group["initial_lr"]
        return LambdaLR(optimizer, factor)


class ProgressBar(TrainerCallback):
    """One bar on stderr with loss, learning rate and tokens per second; a second one while validating."""

    def __init__(self, budget: TimeBudget | None = None) -> None:
        self._budget = budget
        self._bar: Any = None
        self._validation_bar: Any = None
        self._shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the bar: over seconds if the run has a time budget, over steps if not."""
        if not state.is_world_process_zero:
            return
        if self._budget is None:
            self._bar = tqdm(desc="train", total=state.max_steps, initial=state.global_step, unit="step", leave=True)
        else:
            total = round(60 * self._budget.max_minutes)
            self._bar = tqdm(desc="train", total=total, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Moves the bar."""
        if self._bar is None:
            return
        place = state.global_step if self._budget is None else int(self._budget.progress * self._bar.total)
        self._bar.update(place - self._bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Shows the newest numbers beside the bar; keeps a line for every validation."""
        if self._bar is None:
            return
        shown = _readable(kwargs["logs"])
        self._shown.update({"step": str(state.global_step), **shown})
        self._bar.set_postfix(self._shown)
        if "val_loss" in shown:
            rest = ", ".join(f"{name} {value}" for name, value in self._shown.items() if name != "step")
            notify(f"step {state.global_step}: {rest}")

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Moves the validation bar, opening it first if need be."""
        loader = kwargs.get("eval_dataloader")
        if not state.is_world_process_zero or not has_length(loader):
            return
        if self._validation_bar is None:
            self._validation_bar = tqdm(desc="validate", total=len(loader), unit="batch", leave=False)
        self._validation_bar.update()

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

    def _close_validation(self) -> None:
        if self._validation_bar is not None:
            self._validation_bar.close()
            self._validation_bar = None

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the bar."""
        self.close()

    def close(self) -> None:
        """Closes what is open, also after an error."""
        self._close_validation()
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _readable(logs: Mapping[str, Any]) -> dict[str, str]:
    """Returns the few logged numbers worth a place beside the bar."""
    shown = {}
    if "loss" in logs:
        shown["loss"] = f"{logs['loss']:.3f}"
        shown["lr"] = f"{logs['learning_rate']:.1e}"
    if "tokens_per_second" in logs:
        shown["tok/s"] = f"{logs['tokens_per_second']:,.0f}"
    if "eval_loss" in logs:
        shown["val_loss"] = f"{logs['eval_loss']:.3f}"
    if "eval_accuracy" in logs:
        shown["accuracy"] = f"{logs['eval_accuracy']:.3f}"
    return shown
