"""A few rows out of many: read once, streaming, without leaving anything on the disk."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from kakehashi.training.documents import load_rows, readable_errors

_BATCH_SIZE = 1000


@dataclass(frozen=True)
class RowSample:
    """Some of the rows that a recipe names.

    Attributes:
        rows: A random choice, in the order of the files; all rows where there are no more.
        total: Rows there are, or that were counted before time ran out.
        is_complete: Whether all rows were counted.
    """

    rows: Dataset
    total: int
    is_complete: bool


def sample_rows(
    paths: str | Sequence[str], *, split: str = "train", limit: int = 2000, max_seconds: float = 20.0, seed: int = 0
) -> RowSample:
    """Returns a random choice of rows, each as likely as the others, and how many rows there are.

    Args:
        paths: As for `load_rows`.
        split: Which split of a Hub data set to take.
        limit: Most rows to keep.
        max_seconds: Stop reading after so long; the rows are then those of the beginning.
        seed: Decides which rows are chosen.

    Raises:
        ValueError: As for `load_rows`, for what is met while reading.
    """
    stream: Any = load_rows(paths, split=split, streaming=True)
    draw = random.Random(seed)
    kept: list[tuple[int, dict[str, Any]]] = []
    total, is_complete = 0, True
    end = time.monotonic() + max_seconds
    with readable_errors(paths):
        for batch in stream.iter(batch_size=_BATCH_SIZE):
            size = len(next(iter(batch.values()), []))
            for index in range(size):
                # Each row takes the place of a random one with the chance that keeps all rows equally likely.
                place = total + index if total + index < limit else draw.randrange(total + index + 1)
                if place < limit:
                    kept[place : place + 1] = [(total + index, {name: batch[name][index] for name in batch})]
            total += size
            if time.monotonic() > end:
                is_complete = False
                break
    if not kept:
        raise ValueError(f"{', '.join([paths] if isinstance(paths, str) else paths)} has no rows.")
    chosen = [row for _, row in sorted(kept, key=lambda entry: entry[0])]
    return RowSample(Dataset.from_list(chosen, features=stream.features), total, is_complete)
