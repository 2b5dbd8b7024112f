"""What the processes of one run agree on: who speaks, who goes first, what all of them count.

The launcher (`accelerate launch` or `torchrun`) starts the same command in each process. With one process everything
here does nothing.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import broadcast_object_list
from datasets.utils import disable_progress_bars
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel, TrainingArguments
from transformers.utils import logging

BAD_INPUT_EXIT_CODE = 2


def is_first_process() -> bool:
    """Returns whether this process is the one that speaks and writes; known before any process group exists."""
    return int(os.environ.get("RANK", "0")) == 0


def launched_processes() -> int:
    """Returns how many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def same_everywhere(error: Exception) -> BaseException:
    """Returns what to raise for an error that all processes meet at once, so that it is told once.

    Args:
        error: The error, as the first process raises it; the others leave with the exit code of bad input.
    """
    return error if is_first_process() else SystemExit(BAD_INPUT_EXIT_CODE)


def silence_other_processes() -> None:
    """Keeps all processes but the first from showing bars and warnings that the first one shows already."""
    if not is_first_process():
        getLogger("kakehashi").setLevel(ERROR)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        disable_progress_bars()


@contextmanager
def first_process_first(training_arguments: TrainingArguments) -> Iterator[None]:
    """Lets the first process prepare data alone; the others follow and find it in the cache.

    Transformers' `main_process_first` lets the others go on also when the first one has failed, so that each fails by
    itself and says so.

    Args:
        training_arguments: Their `ddp_timeout` is how long the others wait, in seconds.

    Raises:
        SystemExit: In the other processes, if the first one failed and says why.
    """
    if training_arguments.world_size == 1:
        yield
    elif training_arguments.process_index == 0:
        succeeded = False
        try:
            yield
            succeeded = True
        finally:
            broadcast_object_list([succeeded])
    else:
        told = [False]
        broadcast_object_list(told)
        if not told[0]:
            raise SystemExit(BAD_INPUT_EXIT_CODE)
        yield


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Returns the sum of a tensor over all processes, the same in each.

    Args:
        values: Numbers of this process, on the device of its model; each process has to take part.
    """
    if _are_several():
        values = values.clone()
        dist.all_reduce(values)
    return values


def is_any(value: bool, device: torch.device) -> bool:
    """Returns whether a condition holds in any process, the same in each.

    Args:
        value: Whether it holds in this one.
        device: Where the processes exchange numbers.
    """
    return bool(sum_over_processes(torch.tensor(int(value), device=device))) if _are_several() else value


def from_first(value: float, device: torch.device) -> float:
    """Returns the first process's number in each.

    Args:
        value: Number of this process.
        device: Where the processes exchange numbers.
    """
    if not _are_several():
        return value
    return float(sum_over_processes(torch.tensor(value if is_first_process() else 0.0, device=device)))


def gather_model(model: PreTrainedModel) -> PreTrainedModel:
    """Returns a model that anyone can save, also where FSDP has left each process a part of it.

    Sharding gives a model another class, whose name and source files are not those to publish.

    Args:
        model: The trained model; each process has to take part.

    Returns:
        The model itself if it is whole, and in all processes but the first; else its copy on the CPU.
    """
    if not isinstance(model, FSDPModule):
        return model
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not is_first_process():
        return model
    plain_class: Any = next(each for each in type(model).__mro__ if not issubclass(each, FSDPModule))
    with torch.device("meta"):
        whole: PreTrainedModel = plain_class(copy.deepcopy(model.config))
    whole.load_state_dict(weights, assign=True)
    whole.tie_weights()
    whole.generation_config = model.generation_config
    return whole
