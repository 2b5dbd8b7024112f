"""Stopping when validation gets no better, and saying early when that cannot work."""

from __future__ import annotations

from typing import Any

from transformers import (
    EarlyStoppingCallback,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import IntervalStrategy

from kakehashi.training.arguments import ClassifyArguments, StageArguments
from kakehashi.training.callbacks import saved_state
from kakehashi.training.console import notify
from kakehashi.training.label_quality import ERRORS


def settle_stopping(arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments) -> None:
    """Checks that what a run is judged by can be measured, and lets early stopping look at the loss by default.

    Args:
        arguments: The stage's arguments.
        training_arguments: Trainer's; `metric_for_best_model` is filled in where early stopping needs it, and
            `greater_is_better` is made false for errors, which Transformers takes for scores.

    Raises:
        ValueError: If there is no validation to stop by, or the metric is none of this stage.
    """
    if arguments.early_stopping_patience is not None:
        if not arguments.validation_files and not arguments.validation_split:
            raise ValueError(
                "`early_stopping_patience` needs rows to validate on: give `validation_files` or `validation_split`, "
                "got neither"
            )
        if training_arguments.eval_strategy == IntervalStrategy.NO:
            raise ValueError("`early_stopping_patience` needs `eval_strategy` steps or epoch, got no")
        if training_arguments.metric_for_best_model is None:
            training_arguments.metric_for_best_model = "loss"
            training_arguments.greater_is_better = False
    metric = training_arguments.metric_for_best_model
    # Only classification measures more than the loss while it trains.
    is_loss_alone = not isinstance(arguments, ClassifyArguments)
    if metric is not None and is_loss_alone and metric.removeprefix("eval_") != "loss":
        raise ValueError(f"`metric_for_best_model` must be loss in this stage, got {metric!r}")
    if metric is not None and metric.removeprefix("eval_") in ERRORS:
        training_arguments.greater_is_better = False


class MetricGuard(TrainerCallback):
    """Says which metrics there are when the run is to be judged by one that there is not."""

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Looks for the metric among those of a validation."""
        metrics = kwargs.get("metrics") or {}
        known = sorted(name.removeprefix("eval_") for name in metrics if name.startswith("eval_"))
        known = [name for name in known if name != "runtime" and not name.endswith("_per_second")]
        wanted = (args.metric_for_best_model or "").removeprefix("eval_")
        if known and wanted and wanted not in known:
            raise ValueError(f"`metric_for_best_model` must be one of {', '.join(known)}, got {wanted!r}")


class EarlyStopping(EarlyStoppingCallback):
    """Transformers' early stopping, which goes on counting after a resumption and says why it stopped."""

    _is_training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the count of the checkpoint, if there is one."""
        super().on_train_begin(args, state, control, **kwargs)
        saved = saved_state(self, state)["attributes"]
        self.early_stopping_patience_counter = saved["early_stopping_patience_counter"]
        self._is_training = True
        # It may have been killed after it had stopped.
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Counts validations without improvement, but not those that follow training."""
        if not self._is_training:
            return
        before = self.early_stopping_patience_counter
        super().on_evaluate(args, state, control, metrics or {}, **kwargs)
        if before < self.early_stopping_patience <= self.early_stopping_patience_counter:
            notify(
                f"stopped early at step {state.global_step}: {args.metric_for_best_model} has not improved in "
                f"{self.early_stopping_patience} validations"
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ends counting."""
        self._is_training = False


def make_early_stopping(arguments: StageArguments) -> EarlyStopping | None:
    """Returns what stops the run early, None if the recipe does not ask for it.

    Args:
        arguments: The stage's arguments.
    """
    if arguments.early_stopping_patience is None:
        return None
    return EarlyStopping(arguments.early_stopping_patience, arguments.early_stopping_threshold)
