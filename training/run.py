"""What the three stages share: Trainer with its watchers, a run that ends well or says why, and its results."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from safetensors import SafetensorError
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from kakehashi.training.arguments import SequenceStageArguments, StageArguments
from kakehashi.training.callbacks import Interruption, NonFiniteGuard, TimeBudget
from kakehashi.training.checkpoints import (
    find_damage,
    is_disk_full,
    list_checkpoints,
    remove_leftovers,
    require_same_model,
)
from kakehashi.training.collators import CollateByEpoch
from kakehashi.training.compilation import compile_layers, draw_like_eager
from kakehashi.training.console import notify, quiet_library
from kakehashi.training.curves import CurvePlotter
from kakehashi.training.early_stopping import MetricGuard, make_early_stopping
from kakehashi.training.freezing import count_parameters, freeze_parts
from kakehashi.training.lora import add_adapter, merge_adapter, unwrap
from kakehashi.training.optimizer import muon_adamw
from kakehashi.training.processes import gather_model, is_first_process
from kakehashi.training.progress import ProgressBar
from kakehashi.training.publish.trainer_code import CodeForTheHub
from kakehashi.training.recipe import resolved_recipe
from kakehashi.training.recovery import noticing_lack_of_memory
from kakehashi.training.reporting import settle_reporters
from kakehashi.training.run_folder import EarlierRunRemover, fill_run_folder, output_folder
from kakehashi.training.throughput import TokenCounter
from kakehashi.training.trainer import RepeatableTrainer, example_lengths, mean_loss

# Of a stream with a time budget: time ends the run.
_UNBOUNDED_STEPS = 10**9


class TrainingInterrupted(KeyboardInterrupt):
    """A signal ended the run after a checkpoint was saved; the message says how to go on."""


@dataclass
class Run:
    """One training run: what it trains, on what, and what watches it.

    Attributes:
        command: Command of the stage, such as `pretrain`.
        recipe: The resolved recipe.
        training_arguments: Trainer's arguments.
        trainer: Trainer, ready to train.
        tokenizer: Saved beside the model.
        test_dataset: Examples for one final test; None for none.
        counter: Counts tokens.
        interruption: Watches for Ctrl-C and SIGTERM.
        bar: The progress bar.
    """

    command: str
    recipe: dict[str, Any]
    training_arguments: Seq2SeqTrainingArguments
    trainer: RepeatableTrainer
    tokenizer: PreTrainedTokenizerBase
    test_dataset: Dataset | None
    counter: TokenCounter
    interruption: Interruption
    bar: ProgressBar

    @property
    def model(self) -> PreTrainedModel:
        """The model that is trained, without what Trainer may wrap it in; adapters are part of its layers."""
        assert self.trainer.model is not None
        model = unwrap(self.trainer.model)
        assert isinstance(model, PreTrainedModel)
        return model


def build_run(
    command: str,
    arguments: StageArguments,
    training_arguments: Seq2SeqTrainingArguments,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train_dataset: Dataset | IterableDataset | None,
    validation_dataset: Dataset | None,
    test_dataset: Dataset | None,
    data_collator: Callable[..., Any],
    compute_metrics: Callable[..., Any] | None = None,
    compute_loss_func: Callable[..., Any] | None = None,
) -> Run:
    """Puts Trainer and its watchers together.

    Args:
        command: Command of the stage, such as `pretrain`.
        arguments: The stage's arguments.
        training_arguments: Trainer's arguments; those that depend on the data are settled here.
        model: Model to train.
        tokenizer: Its tokenizer.
        train_dataset: Tokenized examples, or a stream of them.
        validation_dataset: The same for validation; None for none.
        test_dataset: The same for one final test; None for none.
        data_collator: Makes a batch of examples.
        compute_metrics: Validation metrics beside the loss; None for the loss alone.
        compute_loss_func: Computes the loss in place of the model; None for the model's own.

    Raises:
        ValueError: If there is nothing to train on, or nothing of the model to train.
    """
    for key, dataset in (("train", train_dataset), ("validation", validation_dataset), ("test", test_dataset)):
        if isinstance(dataset, Dataset) and len(dataset) == 0:
            raise ValueError(f"`{key}_files` must give at least one example, got none")
    recipe = resolved_recipe(arguments, training_arguments)
    trained: Any = add_adapter(model, arguments)
    freeze_parts(trained, arguments)
    if arguments.compile_layers or training_arguments.torch_compile:
        draw_like_eager(training_arguments.device)
    if arguments.compile_layers:
        compile_layers(trained)
    _settle_arguments(arguments, training_arguments, has_validation=validation_dataset is not None)
    trainer = RepeatableTrainer(
        model=trained,
        args=training_arguments,
        train_dataset=train_dataset,
        eval_dataset=None if validation_dataset is None else _longest_first(validation_dataset),
        processing_class=tokenizer,
        data_collator=data_collator,
        compute_metrics=compute_metrics,
        compute_loss_func=compute_loss_func,
    )
    if arguments.use_muon:
        # Trainer has no name for it and refuses to be given one where FSDP is used, but makes none where one stands.
        trainer.optimizer = muon_adamw(trained, training_arguments)
    budget = None if arguments.max_minutes is None else TimeBudget(arguments.max_minutes)
    counter, interruption, bar = TokenCounter(), Interruption(), ProgressBar(budget)
    for replaced in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(replaced)
    # The order matters: the time of a picture is no time of training, the counter adds to the log what the bar shows,
    # the clock may ask for a last checkpoint.
    shown_bar = None if training_arguments.disable_tqdm else bar
    stopping = make_early_stopping(arguments)
    watchers: list[TrainerCallback | None] = [CollateByEpoch(), CurvePlotter(), counter, NonFiniteGuard()]
    watchers += [MetricGuard(), stopping, budget, EarlierRunRemover()]
    watchers += [interruption, shown_bar, CodeForTheHub() if training_arguments.push_to_hub else None]
    for watcher in watchers:
        if watcher is not None:
            trainer.add_callback(watcher)
    settle_reporters(trainer)
    if budget is not None:
        trainer.lr_scheduler = budget.make_scheduler(training_arguments, trainer.create_optimizer())
    return Run(command, recipe, training_arguments, trainer, tokenizer, test_dataset, counter, interruption, bar)


def _longest_first(dataset: Dataset) -> Dataset:
    """Returns examples in an order that wastes little on padding and meets a lack of memory at once."""
    return dataset.select(np.argsort(-example_lengths(dataset), kind="stable"))


def _settle_arguments(
    arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments, *, has_validation: bool
) -> None:
    """Settles the Trainer arguments that follow from the data.

    The epochs hold beside `max_minutes`, those that Trainer has by default too: `parse_recipe` alone knows which a
    recipe gave. Whoever makes the arguments in Python sets `UNBOUNDED_EPOCHS` of it for a run that time alone ends.
    """
    if not has_validation:
        training_arguments.eval_strategy = "no"
        training_arguments.do_eval = False
    is_stream = isinstance(arguments, SequenceStageArguments) and arguments.streaming
    if is_stream:
        # Each process reads the stream: batches that one makes for all would have to be of one width.
        settings: Any = training_arguments.accelerator_config
        settings.dispatch_batches = False
        if training_arguments.max_steps <= 0:
            training_arguments.max_steps = _UNBOUNDED_STEPS
    if training_arguments.ddp_find_unused_parameters is None:
        # Every parameter takes part in every batch; looking for others costs time in each step.
        training_arguments.ddp_find_unused_parameters = False


def train(run: Run, checkpoint: Path | None) -> None:
    """Trains until the end, or until something stops the run in good order.

    Args:
        run: What to train.
        checkpoint: Complete checkpoint to go on from; None starts anew.

    Raises:
        TrainingInterrupted: After Ctrl-C or SIGTERM, once a checkpoint is saved.
        OSError: If the disk is full.
        OutOfMemory: If a step needs more memory than there is; `recovering` goes on with a smaller batch.
        ValueError: If the loss or a gradient is not finite, or the checkpoint is of another model.
    """
    folder = output_folder(run.training_arguments)
    if checkpoint is not None:
        require_same_model(checkpoint, run.model)
        notify(f"going on from {checkpoint}")
    memory = noticing_lack_of_memory(run.trainer)
    with run.interruption, _readable_disk_full(folder), _readable_mismatch(checkpoint), _one_bar(run.bar), memory:
        run.trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if run.interruption.has_stopped:
        saved = list_checkpoints(folder)
        raise TrainingInterrupted(
            f"interrupted at step {run.trainer.state.global_step}, saved {saved[0] if saved else 'nothing'}; "
            "go on with the same command and --resume"
        )


@contextmanager
def _one_bar(bar: ProgressBar) -> Iterator[None]:
    """Shows our bar alone, and closes it however the run ends."""
    try:
        with quiet_library():
            yield
    finally:
        bar.close()


@contextmanager
def _readable_mismatch(checkpoint: Path | None) -> Iterator[None]:
    """Says of what recipe a checkpoint is where torch finds that its optimizer trained other weights."""
    try:
        yield
    except ValueError as error:
        if "loaded state dict" not in str(error):
            raise
        raise ValueError(
            f"`--resume` must go on with the optimizer of {checkpoint}: `use_muon`, `optim`, `lora_rank`, `freeze` "
            f"and `freeze_encoder` must be as they were, but {error}"
        ) from error


@contextmanager
def _readable_disk_full(folder: Path) -> Iterator[None]:
    """Turns the three ways in which a full disk shows itself into one line, and clears what was half written."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not is_disk_full(error, folder):
            raise
        complete = [path for path in list_checkpoints(folder) if find_damage(path) is None]
        remove_leftovers(folder)
        kept = f"the last complete checkpoint is {complete[0]}" if complete else "no checkpoint is complete yet"
        raise OSError(
            errno.ENOSPC, f"no space left for a checkpoint in {folder}; {kept}. Free some space, then add --resume"
        ) from error


def finish_run(run: Run, extra_metrics: dict[str, Any] | None = None) -> dict[str, Any]:
    """Validates, collects the final numbers and fills the run folder.

    Args:
        run: A run that `train` has ended.
        extra_metrics: Numbers of the stage itself, added to the others.

    Returns:
        The content of `metrics.json`.
    """
    trainer, state = run.trainer, run.trainer.state
    metrics = {
        "train_loss": mean_loss(trainer),
        "train_runtime": round(run.counter.run_seconds, 4),
        "steps": state.global_step,
        "epochs": state.epoch,
        **run.counter.summary(),
        "trained_parameters": count_parameters(run.model)[0],
    }
    if trainer.eval_dataset is not None:
        metrics.update(_final_validation(run))
    if run.test_dataset is not None:
        with _one_bar(run.bar):
            metrics.update(trainer.evaluate(_longest_first(run.test_dataset), metric_key_prefix="test"))
    metrics.update(extra_metrics or {})
    model, adapter = merge_adapter(trainer.model)
    metrics["parameters"] = model.num_parameters()
    model = gather_model(model)
    if is_first_process():
        with _readable_disk_full(output_folder(run.training_arguments)), _one_bar(run.bar):
            fill_run_folder(
                model,
                run.tokenizer,
                run.recipe,
                run.training_arguments,
                run.command,
                metrics,
                state.log_history,
                adapter,
            )
    trainer.accelerator.wait_for_everyone()
    notify(f"saved {run.training_arguments.output_dir}")
    return metrics


def _final_validation(run: Run) -> dict[str, Any]:
    """Returns the validation numbers of the final weights, from the log if the last step was validated."""
    state = run.trainer.state
    for entry in reversed(state.log_history):
        is_final = "eval_loss" in entry and entry["step"] == state.global_step
        if is_final and not run.training_arguments.load_best_model_at_end:
            return {key: value for key, value in entry.items() if key.startswith("eval_")}
    with _one_bar(run.bar):
        return run.trainer.evaluate()
