"""How long the texts of a data set are, and what the limits of a recipe cut off them."""

from __future__ import annotations

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from kakehashi.training.console import notify
from kakehashi.training.examples import LENGTH_COLUMNS

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def describe_lengths(lengths: NDArray[np.int64], limit: int) -> tuple[dict[str, int], float]:
    """Returns the lengths that half, 95 %, 99 % and all of some texts do not exceed, and the share above a limit.

    Args:
        lengths: Tokens of each text, of at least one.
        limit: Most tokens that are used of a text.
    """
    found = np.quantile(lengths, list(_QUANTILES.values()), method="inverted_cdf").astype(int).tolist()
    return dict(zip(_QUANTILES, found, strict=True)), float((lengths > limit).mean())


def take_lengths(examples: Dataset, **limits: int) -> tuple[Dataset, dict[str, float]]:
    """Takes the lengths before cutting off tokenized examples, and says in one line for each side what they are.

    Eleven sources of 1, 2, … 11 tokens and `source=10` give

        source_length_p50  6    source_length_p95  11    source_length_max  11    cut_sources  0.0909

    Args:
        examples: From `tokenize_instructions` or `tokenize_classification` with `keep_lengths`.
        **limits: Longest `source` and, where there is one, `target`, in tokens.

    Returns:
        The examples as they go on to the batch, and for each side the length that half, 95 % and 99 % of the examples
        do not exceed, the longest, and the share of the examples that were cut.
    """
    numbers: dict[str, float] = {}
    for side, limit in limits.items():
        lengths = np.asarray(examples.with_format("numpy")[f"{side}_length"][:])
        if not len(lengths):
            continue
        found, cut = describe_lengths(lengths, limit)
        numbers |= {f"{side}_length_{name}": length for name, length in found.items()}
        numbers[f"cut_{side}s"] = cut
        half, most, nearly_all, longest = found.values()
        notify(
            f"{side}s: half have at most {half} tokens, 95 % {most}, 99 % {nearly_all}, all {longest}; "
            f"{cut:.2%} are longer than {limit} and cut"
        )
    return drop_lengths(examples), numbers


def drop_lengths(examples: Dataset) -> Dataset:
    """Returns the examples as they go on to the batch, without their lengths before cutting.

    Args:
        examples: As for `take_lengths`.
    """
    return examples.remove_columns([name for name in LENGTH_COLUMNS if name in examples.column_names])
