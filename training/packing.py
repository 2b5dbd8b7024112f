"""Put many short examples into few long rows, so that hardly a token slot is padding.

    examples (source and target tokens)  a 5 3   b 4 4   c 3 1   d 2 2   e 2 1        room for 8 and 5 tokens

    row 1   source  b b b b c c c .     target  b b b b c
    row 2           a a a a a e e .             a a a e .
    row 3           d d . . . . . .             d d . . .

A row is filled greedily. The largest example that is left begins it, so that no long one is left over at the end; then
comes, again and again, the example after which source and target are filled most evenly, because a row ends as soon as
one of the two is full. Examples are never cut and never left out; the model keeps them apart by segment ids, see
`modeling/packing_kakehashi.py`, and every epoch shuffles the rows.

A packed row has the columns of its examples, joined, and their lengths: `input_ids` and `lengths`, `labels` and
`label_lengths`; columns of numbers become lists of numbers.

Source:
    "Efficient Sequence Packing without Cross-contamination" (Krell et al., 2021) packs by a histogram of lengths; ours
    does so too, with two lengths to an example and balance in place of best fit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset
from datasets.fingerprint import Hasher
from numpy.typing import NDArray

from kakehashi.training import mixture, objectives, sequences
from kakehashi.training.examples import read_code
from kakehashi.training.mixture import Task, draw_tasks, pair_lengths

Lengths = NDArray[np.int64]

LENGTHS_OF = {"input_ids": "lengths", "labels": "label_lengths"}
"""Column of ids → column that tells how long each example in a packed row is."""

# Examples that are packed among each other: enough that nearly every gap has an example that fills it.
BUFFER_SIZE = 10_000
# Examples whose lengths are read at a time: those of a selection are copied into memory for it.
_PIECE = 10 * BUFFER_SIZE
# How much a larger example counts against a better balance; the efficiency is flat between 0.1 and 0.3.
_SIZE_WEIGHT = 0.1


def fill_rows(lengths: Lengths, budgets: Sequence[int]) -> list[list[int]]:
    """Returns which examples share a row.

    Args:
        lengths: Tokens of each example on each side, shape (examples, sides).
        budgets: Most tokens of a row on each side.

    Returns:
        For each row the numbers of its examples, every example in exactly one row.

    Raises:
        ValueError: An example is longer than a budget.
    """
    limits = np.asarray(budgets)
    too_long = (lengths > limits).any(axis=1)
    if too_long.any():
        place = int(too_long.argmax())
        raise ValueError(
            f"Every example must fit into a row of {_describe(limits)} tokens, but one has "
            f"{_describe(lengths[place])}."
        )
    # Examples of equal lengths are alike: rows are made of kinds, of which there are far fewer.
    kinds, kind_of_example = np.unique(lengths, axis=0, return_inverse=True)
    shares = kinds / limits
    order = np.argsort(-shares.max(axis=1), kind="stable")
    members = np.argsort(kind_of_example.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(kind_of_example.reshape(-1), minlength=len(kinds)))
    waiting = [members[start:end].tolist()[::-1] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    counts = np.array([len(waiting[kind]) for kind in order])
    rows = []
    for kind_row in _fill_with_kinds(shares[order], counts):
        rows.append([waiting[order[kind]].pop() for kind in kind_row])
    return rows


def _fill_with_kinds(shares: NDArray[np.float64], counts: Lengths) -> list[list[int]]:
    """Returns the kinds in each row.

    Args:
        shares: Share of each budget that an example of a kind takes, the largest kinds first, shape (kinds, sides).
        counts: Examples of each kind, shape (kinds,); used up.
    """
    size = _SIZE_WEIGHT * shares.sum(axis=1)
    rows: list[list[int]] = []
    for largest in range(len(shares)):
        while counts[largest]:
            row, room, candidates = [largest], 1 - shares[largest], np.arange(largest, len(shares))
            counts[largest] -= 1
            while True:
                # What does not fit now will not fit later either. Shares are fractions: allow for their rounding.
                fits = (shares[candidates] <= room + 1e-9).all(axis=1) & (counts[candidates] > 0)
                candidates = candidates[fits]
                if not len(candidates):
                    break
                left = room - shares[candidates]
                kind = int(candidates[np.argmin(left.max(axis=1) - left.min(axis=1) - size[candidates])])
                counts[kind] -= 1
                room = room - shares[kind]
                row.append(kind)
            rows.append(row)
    return rows


def choose_budgets(lengths: Lengths, row_length: int) -> tuple[int, ...]:
    """Returns how long rows should be on each side, for both to be full at the same time.

    Args:
        lengths: Tokens of examples on each side, shape (examples, sides).
        row_length: Tokens of a row on the first side.

    Returns:
        `row_length`, or the longest example if that is longer; for the other side as many tokens as usually belong to
        these, or its longest example.
    """
    longest, means = lengths.max(axis=0), lengths.mean(axis=0)
    first = max(row_length, int(longest[0]))
    others = zip(means[1:], longest[1:], strict=True)
    return (first, *(max(math.ceil(first * mean / means[0]), int(most)) for mean, most in others))


@dataclass(frozen=True)
class Packed:
    """Examples in rows.

    Attributes:
        rows: The packed rows.
        budgets: Tokens that a row has room for, source and target or the one sequence.
        efficiency: Share of this room that holds tokens, 0 to 1; of a stream that of its first buffer.
    """

    rows: Dataset | IterableDataset
    budgets: tuple[int, ...]
    efficiency: float


Measure: TypeAlias = Callable[[pa.Table], Lengths]
"""Returns how many tokens examples will have on each side of the batch, shape (examples, sides)."""


def measure_sequences(*columns: str, extra: int = 0) -> Measure:
    """Returns the measure of examples whose sequences enter the batch as they are.

    Args:
        columns: One for each side, such as `input_ids` and `labels`.
        extra: Special tokens that the collator adds to each sequence.
    """
    return lambda table: np.stack([list_lengths(table[name]) + extra for name in columns], axis=1)


def measure_tasks(tasks: Sequence[Task]) -> Measure:
    """Returns the measure of pieces of documents that `assign_tasks` gave a task.

    Args:
        tasks: The mixture.
    """

    def measure(table: pa.Table) -> Lengths:
        chosen, splits = (np.asarray(table[name], dtype=np.int64) for name in ("task", "split"))
        return pair_lengths(list_lengths(table["input_ids"]), chosen, splits, tasks)

    return measure


def find_lengths(examples: Dataset, measure: Measure) -> Lengths:
    """Returns the lengths of all examples, read piece by piece, shape (examples, sides).

    Args:
        examples: From one of the functions of `examples.py`, at least one.
        measure: How long they are.
    """
    return np.concatenate([measure(table) for table in examples.with_format("arrow").iter(_PIECE)])


Examples = TypeVar("Examples", Dataset, IterableDataset)


def assign_tasks(pieces: Examples, tasks: Sequence[Task], seed: int) -> Examples:
    """Draws the task of every piece of a document for `DenoisingCollator`, so that its lengths are known.

    Args:
        pieces: From `tokenize_documents`.
        tasks: The mixture.
        seed: Another seed draws other tasks.

    Returns:
        The pieces with the columns `task`, the number of the task, and `split`, the tokens of the context where the
        task is to predict the next words.
    """

    measure = measure_sequences("input_ids")

    def draw(lengths: Lengths, first: int) -> dict[str, pa.Array]:
        chosen, splits = draw_tasks(lengths[:, 0], tasks, np.random.default_rng((seed, first)))
        return {"task": pa.array(chosen.astype(np.int8)), "split": pa.array(splits.astype(np.int32))}

    def extend(table: pa.Table, indices: Sequence[int]) -> pa.Table:
        for column, values in draw(measure(table), indices[0]).items():
            table = table.append_column(column, values)
        return table

    if isinstance(pieces, IterableDataset):
        return pieces.with_format("arrow").map(extend, batched=True, with_indices=True)
    name = Hasher.hash((pieces._fingerprint, repr(tuple(tasks)), seed))
    for column, values in draw(find_lengths(pieces, measure), 0).items():
        pieces = pieces.add_column(column, values, new_fingerprint=f"{name}-{column}")
    return pieces


def pack_examples(
    examples: Dataset | IterableDataset,
    measure: Measure,
    row_length: int,
    *,
    longest: Sequence[int] | None = None,
    seed: int = 0,
    settings: Any = None,
    num_proc: int | None = None,
) -> Packed:
    """Packs tokenized examples into rows, once: `datasets` keeps the result and finds it again.

    Works with a plain Trainer, if its model knows `segment_ids`:

        packed = pack_examples(examples, measure_sequences("input_ids", "labels"), 256)
        arguments = TrainingArguments("run", remove_unused_columns=False)
        Trainer(model, arguments, train_dataset=packed.rows, data_collator=Seq2SeqCollator(tokenizer))

    Trainer would remove the columns of lengths, and with them what keeps the examples of a row apart.

    Args:
        examples: From one of the functions of `examples.py`. They are shuffled first, so that neighbours in a file do
            not become neighbours in a row; a stream is shuffled within a buffer, anew in every epoch.
        measure: How long the examples are in the batch.
        row_length: Tokens of a row on its first side; more if an example is longer. Rows of at least twice the longest
            example are filled best.
        longest: Most tokens that an example may have on each side; a stream needs it.
        seed: Shuffles.
        settings: What `measure` depends on; other settings pack anew.
        num_proc: Processes that pack; None means this one.

    Raises:
        ValueError: `row_length` is less than 1, or an example of a stream is longer than `longest`.
    """
    if row_length < 1:
        raise ValueError(f"`row_length` must be at least 1, but it is {row_length}.")
    if isinstance(examples, IterableDataset):
        if longest is None:
            raise ValueError("`longest` must be given to pack a stream, but it is None.")
        return _pack_stream(examples.shuffle(seed, buffer_size=BUFFER_SIZE), measure, row_length, longest, seed)
    lengths = find_lengths(examples, measure)
    budgets = choose_budgets(lengths, row_length)
    code = read_code(pack_examples, mixture, objectives, sequences)
    name = Hasher.hash((examples._fingerprint, seed, settings, budgets, code))
    rows = (
        examples.shuffle(seed, new_fingerprint=f"{name}-shuffled")
        .with_format("arrow")
        .map(
            partial(_pack_table, measure=measure, budgets=budgets),
            batched=True,
            batch_size=BUFFER_SIZE,
            num_proc=num_proc,
            remove_columns=examples.column_names,
            new_fingerprint=name,
            desc="Packing",
        )
    )
    return Packed(rows.with_format(None), budgets, _efficiency(lengths, len(rows), budgets))


def _pack_stream(
    examples: IterableDataset, measure: Measure, row_length: int, longest: Sequence[int], seed: int
) -> Packed:
    arrow = examples.with_format("arrow")
    lengths = measure(next(iter(arrow.iter(BUFFER_SIZE))))
    budgets = choose_budgets(np.concatenate((lengths, [longest])), row_length)

    def pack(table: pa.Table) -> pa.Table:
        rows = _pack_table(table, measure, budgets)
        # Those of the largest examples come first.
        return rows.take(np.random.default_rng(seed).permutation(len(rows)))

    rows = arrow.map(pack, batched=True, batch_size=BUFFER_SIZE)
    return Packed(rows.with_format(None), budgets, _efficiency(lengths, len(fill_rows(lengths, budgets)), budgets))


def _efficiency(lengths: Lengths, num_rows: int, budgets: Sequence[int]) -> float:
    return float(lengths.sum() / (num_rows * sum(budgets)))


def _pack_table(table: pa.Table, measure: Measure, budgets: Sequence[int]) -> pa.Table:
    """Returns rows with the columns of the examples, joined, and their lengths."""
    rows = fill_rows(measure(table), budgets)
    examples_of_row = np.array([len(row) for row in rows])
    table = table.take(np.concatenate(rows))
    columns: dict[str, pa.Array] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if not pa.types.is_list(column.type):
            columns[name] = _group(column, examples_of_row)
            continue
        lengths = list_lengths(table[name])
        tokens_of_row = np.add.reduceat(lengths, np.cumsum(examples_of_row) - examples_of_row)
        columns[name] = _group(column.flatten(), tokens_of_row)
        columns[LENGTHS_OF[name]] = _group(pa.array(lengths, pa.int32()), examples_of_row)
    return pa.table(columns)


def _group(values: pa.Array, counts: Lengths) -> pa.ListArray:
    """Returns lists of so many values each."""
    return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], np.cumsum(counts))), pa.int32()), values)


def list_lengths(column: pa.ChunkedArray) -> Lengths:
    """Returns the length of each list of an Arrow column, shape (rows,)."""
    # Read off the offsets of the Arrow lists; unpacking the ids of a corpus would take minutes.
    return np.concatenate([chunk.value_lengths() for chunk in column.chunks]).astype(np.int64)


def _describe(lengths: Any) -> str:
    return " + ".join(str(int(length)) for length in lengths)
