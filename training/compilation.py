"""Compiling a model layer by layer, so that equal layers are compiled once; and what compiled code draws at random."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils.other import is_repeated_blocks
from torch import nn


def compile_layers(model: nn.Module, **options: Any) -> None:
    """Compiles each layer of a model's stacks by itself, in place; the layers of a stack share their graphs.

    What is outside the layers runs as it is: embedding, final norm, loss. Names of parameters stay, so checkpoints do.

    Args:
        model: Any model whose layers stand in lists of modules of one class each.
        **options: What `torch.compile` takes, such as `backend`.
    """
    for module in model.modules():
        if is_repeated_blocks(module):
            for layer in module.children():
                layer.compile(**options)


def draw_like_eager(device: torch.device) -> None:
    """Lets code that is compiled for a CPU draw its dropout as code that is not compiled does.

    Its own generator counts on thousands of threads. On one, forward passes with dropout took half as long again.

    Args:
        device: Where the compiled code will run; anywhere but on a CPU nothing is changed.
    """
    if device.type == "cpu":
        import torch._inductor.config

        torch._inductor.config.fallback_random = True
