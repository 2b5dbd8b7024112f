"""Half precision: whether a device computes in bfloat16 itself or only imitates it, and computing as a run does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from transformers import TrainingArguments

# What x86-64 and Arm call the instructions that multiply in bfloat16.
_CPU_CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


@lru_cache
def computes_bfloat16(device_type: str) -> bool:
    """Tells whether matrix products in bfloat16 are computed by the device's own instructions.

    A device without them takes many times as long as in float32: on one x86-64 core with AVX2 alone a product of
    1,024 × 256 by 256 × 1,024 took 466 ms in place of 10.6.

    Args:
        device_type: Such as `cpu` or `cuda`. Of other kinds than these it is assumed.
    """
    if device_type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in _CPU_CAPABILITIES)
    return device_type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def autocast_of(training_arguments: TrainingArguments) -> AbstractContextManager[Any]:
    """Returns a context in which products are computed in the precision of a run.

    Trainer's own covers the forward pass of a model alone, not the encoder that `generate` calls, nor a model that no
    Trainer has prepared.

    Args:
        training_arguments: `bf16`, `fp16` and the device.
    """
    if not training_arguments.bf16 and not training_arguments.fp16:
        return nullcontext()
    dtype = torch.bfloat16 if training_arguments.bf16 else torch.float16
    return torch.autocast(training_arguments.device.type, dtype)
