"""Compiling a model layer by layer, so that equal layers are compiled once."""

from __future__ import annotations

from typing import Any

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
