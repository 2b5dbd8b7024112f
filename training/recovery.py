"""What wraps every stage: too little memory halves the batch and goes on, and only one process speaks."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import datasets
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import TrainingArguments

from kakehashi.training.arguments import SequenceStageArguments
from kakehashi.training.checkpoints import AtomicCheckpoints, list_checkpoints
from kakehashi.training.console import notify
from kakehashi.training.documents import describe_damage, is_damaged_arrow, is_unreadable
from kakehashi.training.processes import launched_processes, silence_other_processes
from kakehashi.training.recipe import CHECKPOINTING
from kakehashi.training.run_folder import RESUME_NEWEST, no_empty_folder_left, output_folder

Arguments = TypeVar("Arguments")
Settings = TypeVar("Settings", bound=TrainingArguments)
Others = ParamSpec("Others")


class OutOfMemory(RuntimeError):
    """A step needed more memory than there was; the message says at which step.

    Attributes:
        has_saved: Whether a checkpoint was saved before it.
    """

    def __init__(self, message: str, *, has_saved: bool) -> None:
        super().__init__(message)
        self.has_saved = has_saved


def recovering(
    stage: Callable[Concatenate[Arguments, Settings, Others], dict[str, Any]],
) -> Callable[Concatenate[Arguments, Settings, Others], dict[str, Any]]:
    """Makes a stage go on with a smaller batch where memory runs out.

    Half the batch, twice the gradient accumulation: each step still learns from the same examples. The stage begins
    again, as `--resume` would, from its last complete checkpoint, or else from where it has begun.

    Args:
        stage: Takes the stage's and Trainer's arguments, perhaps others, and returns the final numbers.
    """

    @functools.wraps(stage)
    def run(
        arguments: Arguments, training_arguments: Settings, *others: Others.args, **named_others: Others.kwargs
    ) -> dict[str, Any]:
        silence_other_processes()
        if training_arguments.world_size != launched_processes():
            # Each would train by itself, all of them into one folder.
            raise ValueError(
                f"the launcher started {launched_processes()} processes, but {training_arguments.world_size} would "
                "train together; `use_cpu: true` is needed where several are to share processors"
            )
        # The stage settles some of the arguments by the data; a second try has to start from the recipe's.
        given, settings = copy.copy(arguments), copy.copy(training_arguments)
        with no_empty_folder_left(output_folder(settings)):
            while True:
                try:
                    return stage(arguments, training_arguments, *others, **named_others)
                except OutOfMemory as error:
                    what, has_saved = str(error), error.has_saved
                except Exception as error:
                    damage = _explain_damage(error, arguments, output_folder(settings))
                    if damage is None:
                        raise
                    raise ValueError(damage) from error
                # Only here, where the error and all that it refers to are gone, can the memory be given back.
                clear_device_cache(garbage_collection=True)
                notify(f"{what}; {halve_batch(settings)}")
                # The newest one of the folder may be of another course than the one that the recipe names.
                if has_saved or settings.resume_from_checkpoint is None:
                    settings.resume_from_checkpoint = RESUME_NEWEST
                arguments, training_arguments = copy.copy(given), copy.copy(settings)

    return run


def _explain_damage(error: Exception, arguments: Any, folder: Path) -> str | None:
    """Returns which data an error says to be damaged and what to do, or None if it says something else."""
    if isinstance(arguments, SequenceStageArguments) and arguments.streaming:
        if not is_unreadable(error):
            return None
        hint = "add --resume" if list_checkpoints(folder) else "begin again"
        damage = describe_damage(arguments.train_files or [], error)
        return f"{damage.removesuffix('.')}; mend the file or leave it out, then {hint}"
    if not is_damaged_arrow(error):
        return None
    # Rows and examples are read and made again by themselves; this is what was made of them later.
    return (
        f"the data sets' cache in {datasets.config.HF_DATASETS_CACHE} is damaged: {error}; remove it and begin again"
    )


def halve_batch(training_arguments: TrainingArguments) -> str:
    """Halves the batch of a device in place and takes as many more of them for a step.

    Args:
        training_arguments: `per_device_train_batch_size` and `gradient_accumulation_steps` change, their product does
            not.

    Returns:
        What was changed, in words.

    Raises:
        ValueError: If the batch is one example, or if there are several processes: the others wait for a step that
            this one has left, so that only the launcher can start all of them again.
    """
    size, accumulation = training_arguments.per_device_train_batch_size, training_arguments.gradient_accumulation_steps
    if size == 1:
        raise ValueError(
            f"out of memory with `per_device_train_batch_size` 1, which cannot be halved; `{CHECKPOINTING}`, "
            "`bf16`, shorter examples or a smaller model need less"
        )
    # Half of it where that is whole, or else the largest part below that divides the examples of a step.
    smaller = next(part for part in range(size // 2, 0, -1) if size * accumulation % part == 0)
    more = size * accumulation // smaller
    if training_arguments.world_size > 1:
        raise ValueError(
            f"out of memory in process {training_arguments.process_index} with `per_device_train_batch_size` {size}; "
            f"start again with --resume --per_device_train_batch_size {smaller} --gradient_accumulation_steps {more}, "
            "which gives each step the same examples"
        )
    training_arguments.per_device_train_batch_size = smaller
    training_arguments.gradient_accumulation_steps = more
    return (
        f"going on with `per_device_train_batch_size` {smaller} in place of {size} and `gradient_accumulation_steps` "
        f"{more} in place of {accumulation}, the same {smaller * more} examples a step"
    )


@contextmanager
def noticing_lack_of_memory(trainer: AtomicCheckpoints) -> Iterator[None]:
    """Turns what torch and Python raise without memory into one error.

    Args:
        trainer: Knows the steps taken so far.

    Raises:
        OutOfMemory: In place of an error that says that memory is used up.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        what = f"out of memory at step {trainer.state.global_step + 1}"
        raise OutOfMemory(what, has_saved=trainer.has_saved) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that an accelerator or the machine has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # accelerate knows what each allocator says.
    return isinstance(error, RuntimeError) and should_reduce_batch_size(error)
