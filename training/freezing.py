"""Training a part of a model: named modules keep their weights, and one line says how much is left to train."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from kakehashi.training.arguments import StageArguments
from kakehashi.training.console import notify
from kakehashi.training.optimizer import split_parameters


def freeze_parts(model: nn.Module, arguments: StageArguments) -> None:
    """Freezes what the recipe names, and says how many parameters are left to train if that is not all of them.

    Args:
        model: Model to change in place, with or without adapters.
        arguments: `freeze_encoder` and `freeze`.

    Raises:
        ValueError: If a pattern matches no module, the model has no encoder, or nothing is left to train.
    """
    frozen: list[nn.Module] = []
    if arguments.freeze_encoder:
        frozen.append(find_encoder(model))
    for pattern in arguments.freeze or []:
        frozen += find_modules(model, pattern)
    for module in frozen:
        module.requires_grad_(False)
    trained, total = count_parameters(model)
    if trained == 0:
        raise ValueError("`freeze` must leave something to train, got patterns that freeze every parameter")
    if frozen and arguments.use_muon:
        _require_matrices(model)
    if trained < total:
        notify(f"training {trained:,} of {total:,} parameters ({trained / total:.2%})")


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Returns the parameters that training changes, and all; a weight that several modules share counts once."""
    parameters = list(model.parameters())
    return sum(each.numel() for each in parameters if each.requires_grad), sum(each.numel() for each in parameters)


def find_encoder(model: nn.Module) -> nn.Module:
    """Returns the encoder of a model, with the embedding it reads.

    Args:
        model: An encoder-decoder, or an encoder under a head, of any family.

    Raises:
        ValueError: If it has none.
    """
    inner: Any = model
    # An adapter stands around the model.
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    if inner.config.is_encoder_decoder:
        encoder = inner.get_encoder()
    else:
        # Of an encoder alone, all that stands under the head belongs to it; what writes text is a decoder.
        encoder = None if inner.can_generate() else inner.base_model
    if not isinstance(encoder, nn.Module) or encoder is inner:
        raise ValueError(f"`freeze_encoder` must be left out for {type(inner).__name__}, which has no encoder")
    return encoder


def find_modules(model: nn.Module, pattern: str) -> list[nn.Module]:
    """Returns the modules that a pattern names.

    Args:
        model: Where to look.
        pattern: A dotted name or its end, with `*` and `[0-3]` as in file names: `embed_tokens`,
            `encoder.layers.[01]`, `*.self_attn`.

    Raises:
        ValueError: If it names none; the nearest name is in the message.
    """
    names = {name: module for name, module in model.named_modules() if name}
    found = [module for name, module in names.items() if _is_named(name, pattern)]
    if not found:
        raise ValueError(
            f"`freeze` must name modules of the model, got {pattern!r}; nearest: {nearest_name(names, pattern)!r}"
        )
    return found


def nearest_name(names: Iterable[str], wanted: str) -> str:
    """Returns the end of a module's name that is nearest to what was wanted, as long in dots.

    Args:
        names: Dotted names of modules.
        wanted: What was asked for.
    """
    length = wanted.count(".") + 1
    ends = sorted({".".join(name.split(".")[-length:]) for name in names})
    return difflib.get_close_matches(wanted, ends, n=1, cutoff=0.0)[0]


def _is_named(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _require_matrices(model: nn.Module) -> None:
    try:
        split_parameters(model)
    except ValueError as error:
        raise ValueError(
            "`use_muon` needs linear layers of blocks to train, got a recipe that freezes all of them; "
            "add `--use_muon false`"
        ) from error
