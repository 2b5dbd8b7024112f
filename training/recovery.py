"""What wraps every stage: too little memory halves the batch and goes on, and only one process speaks."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import datasets
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import TrainingArguments

from kakehashi.training.console import notify
from kakehashi.training.documents import is_damaged_arrow
from kakehashi.training.processes import launched_processes, silence_other_processes
from kakehashi.training.run_folder import RESUME_NEWEST

Arguments = TypeVar("Arguments")
Settings = TypeVar("Settings", bound=TrainingArguments)
Others = ParamSpec("Others")


class OutOfMemory(RuntimeError):
    """A step needed more memory than there was; the message says at which step."""


def recovering(
    stage: Callable[Concatenate[Arguments, Settings, Others], dict[str, Any]],
) -> Callable[Concatenate[Arguments, Settings, Others], dict[str, Any]]:
    """Makes a stage go on with a smaller batch where memory runs out.

    Half the batch, twice the gradient accumulation: each step still learns from the same examples. The stage begins
    again, as `--resume` would, from the last complete checkpoint or from the start.

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
        while True:
            try:
                return stage(arguments, training_arguments, *others, **named_others)
            except OutOfMemory as error:
                what = str(error)
            except (ValueError, OSError) as error:
                if not is_damaged_arrow(error):
                    raise
                # Rows and examples are read and made again by themselves; this is what was made of them later.
                cache = datasets.config.HF_DATASETS_CACHE
                raise ValueError(
                    f"the data sets' cache in {cache} is damaged: {error}; remove it and begin again"
                ) from error
            # Only here, where the error and all that it refers to are gone, can the memory be given back.
            clear_device_cache(garbage_collection=True)
            notify(f"{what}; {halve_batch(settings)}")
            settings.resume_from_checkpoint = RESUME_NEWEST
            arguments, training_arguments = copy.copy(given), copy.copy(settings)

    return run


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
            "out of memory with `per_device_train_batch_size` 1, which cannot be halved; `gradient_checkpointing`, "
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
def noticing_lack_of_memory(step: Callable[[], int]) -> Iterator[None]:
    """Turns what torch and Python raise without memory into one error.

    Args:
        step: Returns the steps taken so far.

    Raises:
        OutOfMemory: In place of an error that says that memory is used up.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory at step {step() + 1}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that an accelerator or the machine has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # accelerate knows what each allocator says.
    return isinstance(error, RuntimeError) and should_reduce_batch_size(error)
