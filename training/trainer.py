"""Trainer with repeatable batches of sentences of equal length, and a validation that leaves no trace."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset, IterableDataset, List
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

from kakehashi.training.callbacks import lacks_validation
from kakehashi.training.checkpoints import AtomicCheckpoints
from kakehashi.training.console import notify
from kakehashi.training.mean_over_labels import MeanOverLabels
from kakehashi.training.packing import find_lengths, measure_sequences
from kakehashi.training.recovery import is_out_of_memory
from kakehashi.training.schedule import naming_settings, schedule_settings

# So many batches are drawn at random and sorted among themselves: enough that a batch holds nearly one length only,
# few enough that the same examples do not meet in every epoch.
_BATCHES_PER_GROUP = 50


def example_lengths(dataset: Dataset) -> np.ndarray:
    """Returns the tokens of each example, source and target together, shape (examples,).

    Args:
        dataset: Examples with `input_ids` and, where they are sequences too, `labels`.
    """
    names = [name for name in ("input_ids", "labels") if isinstance(dataset.features.get(name), List)]
    return find_lengths(dataset, measure_sequences(*names)).sum(axis=1)


def count_batches(examples: int, training_arguments: TrainingArguments) -> int:
    """Returns the batches of an epoch, counting those of all devices as one.

    Args:
        examples: Examples of an epoch.
        training_arguments: Trainer's arguments.

    Raises:
        ValueError: If there is no batch, since `dataloader_drop_last` leaves out the only one.
    """
    size = training_arguments.train_batch_size * training_arguments.world_size
    if not training_arguments.dataloader_drop_last:
        return math.ceil(examples / size)
    if examples < size:
        raise ValueError(
            f"`dataloader_drop_last` must be false where an epoch fills no batch, got {examples:,} examples for a "
            f"batch of {size:,}"
        )
    return examples // size


class LengthGroupedSampler(Sampler[int]):
    """Gives batches of examples of about the same length, the batches themselves in random order.

    Transformers' sampler of the same purpose leaves the batches of a group sorted, so that the loss swings with the
    length of a sentence, and draws from torch's common generator, so that a run resumed within an epoch sees other
    examples than it would have. Here the order follows from seed and epoch alone:

        lengths of the shuffled examples   3 9 5 8 2 4       (batches of 2, one group)
        sorted, cut into batches           9 8 | 5 4 | 3 2
        batches shuffled                   5 4 | 9 8 | 3 2

    Args:
        lengths: Length of each example, in tokens, shape (examples,).
        batch_size: Examples in a batch; the sampler gives examples one by one, and whoever batches them must cut at
            this size. The last batch may be smaller.
        seed: Seeds every epoch's order.
        epoch: Returns the current epoch when the order is drawn.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self._seed, self._epoch()))
        order = generator.permutation(len(self._lengths))
        group_size = _BATCHES_PER_GROUP * self._batch_size
        batches: list[np.ndarray] = []
        for start in range(0, len(order), group_size):
            group = order[start : start + group_size]
            group = group[np.argsort(-self._lengths[group], kind="stable")]
            batches.extend(group[i : i + self._batch_size] for i in range(0, len(group), self._batch_size))
        # Every batch but the last one has to be full, or those after it would be cut at the wrong places.
        full = len(order) // self._batch_size
        for index in [*generator.permutation(full), *range(full, len(batches))]:
            yield from batches[index].tolist()


class RepeatableTrainer(AtomicCheckpoints, MeanOverLabels):
    """Seq2SeqTrainer whose data order and validation depend on the recipe's seed alone.

    The plain class redraws the order of an epoch on resuming, and each validation takes numbers from the generator
    that training draws from; a run that was interrupted would end with other weights. Checkpoints are complete or
    invisible, losses are means over labels, and settings of the learning rate's schedule may be shares of the run.
    Nothing else is changed.
    """

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        """Returns the sampler for `train_sampling_strategy: group_by_length`, and Trainer's own for the others."""
        is_stream = isinstance(self.train_dataset, IterableDataset)
        if self.args.train_sampling_strategy != "group_by_length" or is_stream:
            return super()._get_train_sampler(train_dataset)
        return LengthGroupedSampler(
            example_lengths(self.train_dataset if train_dataset is None else train_dataset),
            # All of a step, so that the order is the same however processes and accumulation share it.
            self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps,
            self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            epoch=lambda: int(self.state.epoch or 0),
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Returns Trainer's loader, which has to have a batch: a run without one would end as it began."""
        if isinstance(self.train_dataset, Dataset):
            count_batches(len(self.train_dataset), self.args)
        return super().get_train_dataloader()

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader[Any]:
        """Returns Trainer's loader, whose workers leave signals to the process that they work for."""
        loader = super()._get_dataloader(*args, **kwargs)
        # accelerate's loader iterates over one inside it.
        inner = getattr(loader, "base_dataloader", loader)
        inner.worker_init_fn = partial(_ignore_signals, inner.worker_init_fn)
        return loader

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler[int] | None:
        """Returns a sampler that keeps the order of the rows."""
        return SequentialSampler(eval_dataset)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """Returns the schedule, whose settings may be shares of the run."""
        if self.lr_scheduler is None:
            self.args.lr_scheduler_kwargs = schedule_settings(self.args, num_training_steps)
        with naming_settings(self.args):
            return super().create_scheduler(num_training_steps, optimizer)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Returns the optimizer, whose package has to be there."""
        try:
            return super().create_optimizer(model)
        except ImportError as error:
            name = OptimizerNames(self.args.optim).value
            raise ValueError(f"`optim` must be one whose package is there, got {name}: {error}") from error

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Takes up optimizer and schedule, and says so where the recipe's learning rate is another one by now."""
        wanted = _base_rates(self.lr_scheduler)
        super()._load_optimizer_and_scheduler(checkpoint)
        if _base_rates(self.lr_scheduler) != wanted:
            notify(
                f"`learning_rate` {self.args.learning_rate} is not taken: the schedule of {checkpoint} goes on; a "
                "changed rate needs a fresh start, with --overwrite true in place of --resume"
            )

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Trains an epoch, unless the checkpoint was the last one: Trainer would take one step too many."""
        if self.state.global_step == self._initial_global_step and lacks_validation(self.args, self.state):
            self._determine_best_metric(self._evaluate(trial=None, ignore_keys_for_eval=None), trial=None)
        if self.state.global_step < self.state.max_steps and not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validates, drawing the same random numbers each time and giving training's back afterwards.

        Where memory runs out, it validates again with half the batch. The loss remains the mean over the labels, but
        where words are hidden or cut out, these are others: the texts of a batch seed that draw.
        """
        # Seeding reaches the accelerator too.
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        while True:
            try:
                with torch.random.fork_rng(devices=devices):
                    torch.manual_seed(self.args.seed)
                    return super().evaluate(*args, **kwargs)
            except RuntimeError as error:
                size = self.args.per_device_eval_batch_size
                if not is_out_of_memory(error) or self.args.world_size > 1:
                    raise
                if size == 1:
                    raise ValueError(
                        "out of memory while validating with `per_device_eval_batch_size` 1, which cannot be halved; "
                        "`bf16`, shorter examples or a smaller model need less"
                    ) from error
            self.args.per_device_eval_batch_size = size // 2
            clear_device_cache(garbage_collection=True)
            notify(f"out of memory while validating; going on with `per_device_eval_batch_size` {size // 2}")


def mean_loss(trainer: Trainer) -> float | None:
    """Returns the mean training loss over all steps; of those before a resumption, what was logged counts.

    None if there were no others and none was logged.

    Args:
        trainer: One that has trained.
    """
    history, resumed_at = trainer.state.log_history, trainer._initial_global_step
    own_steps = trainer.state.global_step - resumed_at
    own = next(entry["train_loss"] for entry in reversed(history) if "train_loss" in entry)
    logged = [entry for entry in history if "loss" in entry and entry["step"] <= resumed_at]
    if not logged:
        return own if own_steps else None
    before = np.average([entry["loss"] for entry in logged], weights=np.diff([0, *(e["step"] for e in logged)]))
    return float(np.average([before, own], weights=[resumed_at, own_steps]))


def _ignore_signals(begin: Callable[[int], None] | None, worker: int) -> None:
    """Lets a worker of a loader go on when its whole process group is told to end: the last step needs its batches.

    Args:
        begin: What else the worker begins with; None for nothing.
        worker: Number of the worker.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if begin is not None:
        begin(worker)


def _base_rates(scheduler: Any) -> list[float] | None:
    """Returns the learning rates that a schedule multiplies, None if it is one without."""
    rates = getattr(scheduler, "base_lrs", None)
    return None if rates is None else [float(rate) for rate in rates]
