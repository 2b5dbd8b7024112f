"""Texts as the ids that a model reads, and how many of them it can read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What the tables of learned positions are called, in BERT, BART and GPT-2 and whoever follows them.
_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")

logger = logging.getLogger(__name__)


def encode_and_cut(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None
) -> tuple[list[list[int]], list[int]]:
    """Returns the ids of each text, and how many there were before a cut.

        text  a mutual or reciprocal action     max_length  4     ids  a mutual or </s>     length  6

    Args:
        tokenizer: Adds its own special tokens, which survive a cut; one spelled in a text stays text.
        texts: The texts.
        max_length: Most ids of a text; None cuts nothing.
    """
    options: dict[str, Any] = {"split_special_tokens": True, "verbose": False}
    ids = tokenizer(list(texts), **options)["input_ids"] if texts else []
    lengths = [len(each) for each in ids]
    for place, length in enumerate(lengths):
        if max_length is not None and length > max_length:
            # The tokenizer itself knows which of its special tokens belong to the end.
            ids[place] = tokenizer(texts[place], truncation=True, max_length=max_length, **options)["input_ids"]
    return ids, lengths


def encode_to_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text for a model that does not write, cut as in training where it holds no more.

    Args:
        model: Says in its configuration, and by its learned positions, how much it is meant for.
        tokenizer: As for `encode_and_cut`.
        texts: The texts.
    """
    limits = [getattr(model.config, "max_position_embeddings", None), count_positions(model)]
    limit = min((each for each in limits if each is not None), default=None)
    ids, lengths = encode_and_cut(tokenizer, texts, limit)
    num_long = 0 if limit is None else sum(length > limit for length in lengths)
    if num_long:
        logger.warning("%d of %d texts are longer than %d tokens and were cut", num_long, len(texts), limit)
    return ids


def count_positions(model: nn.Module) -> int | None:
    """Returns the most tokens that a model has learned positions for; None where its positions do not end."""
    tables = [
        module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in _POSITION_TABLES and isinstance(module, nn.Embedding)
    ]
    return min((table.num_embeddings - _first_position(table) for table in tables), default=None)


def _first_position(table: nn.Embedding) -> int:
    """The rows before that of the first token: BART skips two, RoBERTa those up to its padding."""
    padding = -1 if table.padding_idx is None else table.padding_idx
    offset: Any = getattr(table, "offset", padding + 1)
    return int(offset)
