"""The rows of a recipe: those to train on, those to validate on, those to test on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets import Dataset, IterableDataset

from kakehashi.training.arguments import SequenceStageArguments, StageArguments
from kakehashi.training.documents import load_rows


@dataclass
class Splits:
    """The rows of one run.

    Attributes:
        train: Rows to learn from; a stream where the recipe says `streaming`.
        validation: Rows to validate on; None for none.
        test: Rows for one final test; None for none.
        whole: What was divided into these; None where nothing was.
        part: Of one of several runs what `metrics.json` tells of its rows, see `repeats.cut_parts`; None for a run by
            itself.
    """

    train: Dataset | IterableDataset
    validation: Dataset | None
    test: Dataset | None
    whole: Dataset | IterableDataset | None = None
    part: dict[str, Any] | None = None

    @property
    def rows_as_read(self) -> Dataset | IterableDataset:
        """The training rows as the files have them: their labels are the classes, their numbers those of messages."""
        return self.train if self.whole is None else self.whole


def load_splits(arguments: StageArguments, seed: int) -> Splits:
    """Returns the rows that a recipe names.

    Args:
        arguments: The files, `validation_split`, `max_train_examples` and `max_validation_examples`.
        seed: Decides which rows `validation_split` holds out.

    Raises:
        ValueError: If there are no training files, or validation is asked for twice, or a split is left empty.
    """
    train_files = require_files(arguments)
    streams = isinstance(arguments, SequenceStageArguments) and arguments.streaming
    train, whole = load_rows(train_files, streaming=streams), None
    # Rows to validate and test on are few enough to be kept.
    validation = load_rows(arguments.validation_files, split="validation") if arguments.validation_files else None
    if arguments.validation_split:
        # Refused beside `streaming`.
        assert isinstance(train, Dataset)
        whole = train
        train, validation = _hold_out(whole, arguments.validation_split, seed)
    test = load_rows(arguments.test_files, split="test") if arguments.test_files else None
    return Splits(
        _first_rows(train, arguments.max_train_examples),
        None if validation is None else _first_rows(validation, arguments.max_validation_examples),
        test,
        whole,
    )


def require_files(arguments: StageArguments) -> list[str]:
    """Returns the training files of a recipe.

    Args:
        arguments: As for `load_splits`.

    Raises:
        ValueError: If there are none, or validation is asked for twice.
    """
    if not arguments.train_files:
        raise ValueError("`train_files` must name at least one file, directory, glob or Hub id, got nothing")
    if arguments.validation_split and arguments.validation_files:
        raise ValueError(
            "`validation_split` must be 0 where `validation_files` are given, got "
            f"{arguments.validation_split} and {arguments.validation_files}"
        )
    return arguments.train_files


def _hold_out(rows: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Returns training and validation rows, of each at least one."""
    if len(rows) < 2:
        raise ValueError(f"`validation_split` needs at least 2 rows to divide, got {len(rows)}")
    size = min(max(1, round(fraction * len(rows))), len(rows) - 1)
    parts = rows.train_test_split(test_size=size, seed=seed)
    return parts["train"], parts["test"]


def _first_rows(rows: Any, limit: int | None) -> Any:
    if limit is None:
        return rows
    if isinstance(rows, IterableDataset):
        return rows.take(limit)
    return rows if limit >= len(rows) else rows.select(range(limit))
