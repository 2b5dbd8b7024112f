"""Many sequences of ids as one array, so that one call of NumPy serves a whole batch.

A batch of packed rows holds hundreds of short texts. To mask or cut them one after the other takes a Python step for
each, and a GPU would wait for it; drawn with three sequences:

    a b c   d   e f     ids     a b c d e f      lengths    3 1 2
                        owners  0 0 0 1 2 2      positions  0 1 2 0 0 1
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.int64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Sequences:
    """Sequences of ids end to end.

    Attributes:
        ids: The ids of all sequences, shape (ids,).
        lengths: How many each has, shape (sequences,).
    """

    ids: Ids
    lengths: Numbers

    @classmethod
    def of(cls, sequences: Iterable[ArrayLike]) -> Sequences:
        """Returns sequences end to end.

        Args:
            sequences: Each of shape (length,).
        """
        arrays = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
        return cls(np.concatenate([np.empty(0, np.int64), *arrays]), np.array(list(map(len, arrays)), np.int64))

    def __len__(self) -> int:
        """Returns how many sequences there are."""
        return len(self.lengths)

    @property
    def ends(self) -> Numbers:
        """Where each sequence ends among the ids, shape (sequences,)."""
        return np.cumsum(self.lengths)

    @property
    def starts(self) -> Numbers:
        """Where each sequence begins among the ids, shape (sequences,)."""
        return self.ends - self.lengths

    @property
    def owners(self) -> Numbers:
        """The number of the sequence that each id belongs to, shape (ids,)."""
        return find_owners(self.lengths)

    @property
    def positions(self) -> Numbers:
        """The place of each id in its sequence, shape (ids,)."""
        return find_positions(self.lengths)

    def split(self) -> list[Ids]:
        """Returns the sequences one by one."""
        return np.split(self.ids, self.ends[:-1]) if len(self) else []

    def take(self, numbers: Numbers) -> Sequences:
        """Returns some of the sequences, in another order if the numbers say so.

        Args:
            numbers: Which sequences, shape (taken,).
        """
        lengths = self.lengths[numbers]
        return Sequences(self.ids[np.repeat(self.starts[numbers], lengths) + find_positions(lengths)], lengths)

    def keep(self, kept: NDArray[np.bool_]) -> Sequences:
        """Returns the sequences without some of their ids.

        Args:
            kept: Whether each id stays, shape (ids,).
        """
        return Sequences(self.ids[kept], np.bincount(self.owners[kept], minlength=len(self)))

    def insert(self, places: Numbers, ids: ArrayLike, counts: ArrayLike) -> Sequences:
        """Returns the sequences with more ids in them.

        Args:
            places: Before which of the ids of all sequences, ascending.
            ids: What stands there, one id for each place or one for all.
            counts: How many each sequence gets, one number for each or one for all.
        """
        return Sequences(np.insert(self.ids, places, ids), self.lengths + np.asarray(counts))

    def prepend(self, token_id: int) -> Sequences:
        """Returns the sequences with an id at the head of each."""
        return self.insert(self.starts, token_id, 1)

    def append(self, token_id: int) -> Sequences:
        """Returns the sequences with an id at the end of each."""
        return self.insert(self.ends, token_id, 1)


def concatenate(parts: Sequence[Sequences]) -> Sequences:
    """Returns the sequences of all parts."""
    return Sequences(np.concatenate([part.ids for part in parts]), np.concatenate([part.lengths for part in parts]))


def find_owners(lengths: Numbers) -> Numbers:
    """Returns to which sequence each id belongs where they stand end to end: of 3 and 1 ids, 0 0 0 1."""
    return np.repeat(np.arange(len(lengths)), lengths)


def find_positions(lengths: Numbers) -> Numbers:
    """Returns the place of each id in its sequence where they stand end to end: of 3 and 1 ids, 0 1 2 0."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(starts, lengths)


def choose(lengths: Numbers, counts: Numbers, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draws so many ids of each sequence; every choice is equally likely.

    Args:
        lengths: How many ids each sequence has, shape (sequences,).
        counts: How many of them are drawn, at most all, shape (sequences,).
        generator: Draws.

    Returns:
        Whether each id is drawn, shape (ids,).
    """
    owners = find_owners(lengths)
    # An order at random within each sequence, whose first ids are drawn.
    order = np.argsort(owners + generator.random(len(owners)))
    chosen = np.zeros(len(owners), dtype=bool)
    chosen[order[find_positions(lengths) < np.repeat(counts, lengths)]] = True
    return chosen
