"""What the labels of rows are: one of several names, several of them, or numbers to be met."""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from datasets import ClassLabel, Dataset, List, Value

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")

_SHOWN_LABELS = 30


def find_problem_type(rows: Dataset, label_column: str) -> str:
    """Returns which of `PROBLEM_TYPES` the labels are for: lists have several labels, decimal numbers are to be met.

    Args:
        rows: Rows of text and label.
        label_column: Column of the label.
    """
    feature = rows.features[label_column]
    if isinstance(feature, List):
        return "multi_label_classification"
    if isinstance(feature, Value) and feature.dtype.startswith(("float", "double", "decimal")):
        return "regression"
    return "single_label_classification"


def collect_label_names(rows: Dataset, label_column: str) -> list[str]:
    """Returns the names of all labels in the rows, sorted; whole numbers by their value.

    Args:
        rows: Rows of text and label, for training.
        label_column: Column of a label or of lists of labels.

    Raises:
        ValueError: A row has no label, or all rows have the same.
    """
    feature = rows.features[label_column]
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    values = rows[label_column]
    flat = set(chain.from_iterable(values)) if isinstance(feature, List) else set(values)
    if None in flat or "" in flat:
        place = next(index for index, value in enumerate(values) if value in (None, ""))
        raise ValueError(f"Every row must have a label in `{label_column}`, but row {place + 1} has none.")
    if len(flat) < 2:
        found = "".join(f"`{label}`" for label in flat) or "none"
        raise ValueError(
            f"Column `{label_column}` must hold at least two different labels, but the only one is {found}."
        )
    return [str(label) for label in sorted(flat)]


def find_class_names(rows: Dataset, label_column: str) -> list[str]:
    """Returns the names of the classes as `collect_label_names`, none where the labels are numbers to be met.

    Args:
        rows: Rows of text and label, for training.
        label_column: Column of the labels.
    """
    is_regression = find_problem_type(rows, label_column) == "regression"
    return [] if is_regression else collect_label_names(rows, label_column)


def label_encoder(
    rows: Dataset, label_column: str, label_names: Sequence[str], problem_type: str
) -> tuple[Callable[[Any, int], Any], Any]:
    """Returns a function of a label and its row number, and the type of what it returns.

    Args:
        rows: Rows with the labels.
        label_column: Column of a label, of lists of labels or of numbers.
        label_names: Name of each label id; not for regression.
        problem_type: One of `PROBLEM_TYPES`.
    """
    if problem_type == "regression":
        return _as_number, Value("float32")
    feature = rows.features[label_column]
    ids = {name: index for index, name in enumerate(label_names)}

    def find(label: Any, index: int) -> int:
        name = feature.int2str(label) if isinstance(feature, ClassLabel) and label is not None else str(label)
        if label is None or name not in ids:
            shown = ", ".join(f"`{each}`" for each in label_names[:_SHOWN_LABELS])
            more = len(label_names) - _SHOWN_LABELS
            known = shown + (f" and {more} more" if more > 0 else "")
            raise ValueError(
                f"Every label in `{label_column}` must be one of the training labels, but row {index + 1} has "
                f"{label!r}; known are {known}."
            )
        return ids[name]

    if problem_type == "single_label_classification":
        return find, Value("int64")

    def find_all(labels: Any, index: int) -> list[float]:
        found = {find(label, index) for label in labels or []}
        return [float(each in found) for each in range(len(ids))]

    return find_all, List(Value("float32"))


def _as_number(label: Any, index: int) -> float:
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"Every label must be a finite number for regression, but row {index + 1} has {label!r}.")
    return number
