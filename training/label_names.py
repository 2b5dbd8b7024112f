"""What the labels of rows are: one of several names, several of them, or numbers to be met."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

from datasets import ClassLabel, Dataset, LargeList, List, Value

_FEATURES = {
    "single_label_classification": Value("int64"),
    "multi_label_classification": List(Value("float32")),
    "regression": Value("float32"),
}
PROBLEM_TYPES = tuple(_FEATURES)

_LISTS = (List, LargeList)
_NAME_TYPES = (str, int, bool)
_SHOWN_LABELS = 30
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def find_problem_type(rows: Dataset, label_column: str) -> str:
    """Returns which of `PROBLEM_TYPES` the labels are for: lists have several labels, decimal numbers are to be met.

    In files that have no numbers but text, such as `.tsv`, labels are numbers if each is one, some with a point.

    Args:
        rows: Rows of text and label.
        label_column: Column of the label.
    """
    feature = rows.features[label_column]
    if isinstance(feature, _LISTS):
        return "multi_label_classification"
    kind = feature.dtype if isinstance(feature, Value) else ""
    is_number = kind.startswith(("float", "double", "decimal"))
    if is_number or ("string" in kind and _are_decimals(rows[label_column])):
        return "regression"
    return "single_label_classification"


def _are_decimals(labels: Iterable[str | None]) -> bool:
    has_point = False
    for label in labels:
        if label is None or not _NUMBER.fullmatch(label):
            return False
        has_point = has_point or "." in label
    return has_point


def read_labels(rows: Dataset, label_column: str) -> list[Any]:
    """Returns the label of each row; where a data set keeps the numbers of its classes, their names.

    Args:
        rows: Rows with the labels.
        label_column: Column of a label or of lists of labels.
    """
    feature = rows.features[label_column]
    classes = _classes_of(feature)
    if classes is None:
        return list(rows[label_column])

    def name(label: Any) -> Any:
        if isinstance(label, list):
            return [name(each) for each in label]
        return _name_class(classes, label)

    return [name(label) for label in rows[label_column]]


def _classes_of(feature: Any) -> ClassLabel | None:
    """The classes that a column, or each list of it, declares."""
    inner = feature.feature if isinstance(feature, _LISTS) else feature
    return inner if isinstance(inner, ClassLabel) else None


def _name_class(classes: ClassLabel, label: int | None) -> str | None:
    """The name of a class; rows of the Hub that nobody has labelled have a negative number."""
    return None if label is None or label < 0 else classes.int2str(label)


def collect_label_names(rows: Dataset, label_column: str) -> list[str]:
    """Returns the names of all labels in the rows, sorted; whole numbers by their value.

    Args:
        rows: Rows of text and label, for training.
        label_column: Column of a label or of lists of labels.

    Raises:
        ValueError: A row has no label or one that can be no name, labels are of several kinds, or all are the same.
    """
    # Of several labels a row may have none, but not one without a name.
    is_list = isinstance(rows.features[label_column], _LISTS)
    values = [(label or []) if is_list else [label] for label in read_labels(rows, label_column)]
    kinds: set[type] = set()
    for index, label in ((index, label) for index, labels in enumerate(values) for label in labels):
        if label is None or label == "":
            raise ValueError(f"Every row must have a label in `{label_column}`, but row {index + 1} has none.")
        kinds.add(type(label))
        if len(kinds) > 1 or not kinds.issubset(_NAME_TYPES):
            raise ValueError(
                f"Every label in `{label_column}` must be text or a whole number, and all of them of one kind, but "
                f"row {index + 1} has {label!r}."
            )
    classes = _classes_of(rows.features[label_column])
    if classes is not None:
        return list(classes.names)
    flat = set(chain.from_iterable(values))
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

    Raises:
        ValueError: As `collect_label_names`, or a number is absent or not finite.
    """
    if find_problem_type(rows, label_column) != "regression":
        return collect_label_names(rows, label_column)
    for index, label in enumerate(rows[label_column]):
        as_number(label, index)
    return []


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
    classes = _classes_of(rows.features[label_column])
    name_of = str if classes is None else partial(_name_class, classes)
    read = label_reader(label_names, problem_type, where=f" in `{label_column}`", name_of=name_of)
    return read, _FEATURES[problem_type]


def label_reader(
    label_names: Sequence[str], problem_type: str, *, where: str = "", name_of: Callable[[Any], str | None] = str
) -> Callable[[Any, int], Any]:
    """Returns a function of a label and its row number: an id, a 1 or 0 for each id, or a number.

    Args:
        label_names: Name of each label id; not for regression.
        problem_type: One of `PROBLEM_TYPES`.
        where: Where the labels stand, for the message.
        name_of: Returns the name of a label as the rows have it.
    """
    if problem_type == "regression":
        return as_number
    ids = {name: index for index, name in enumerate(label_names)}

    def find(label: Any, index: int) -> int:
        name = None if label is None else name_of(label)
        if name not in ids:
            shown = ", ".join(f"`{each}`" for each in label_names[:_SHOWN_LABELS])
            more = len(label_names) - _SHOWN_LABELS
            known = shown + (f" and {more} more" if more > 0 else "")
            raise ValueError(
                f"Every label{where} must be one of the training labels, but row {index + 1} has {label!r}; known are "
                f"{known}."
            )
        return ids[name]

    def find_all(labels: Any, index: int) -> list[float]:
        if labels is not None and not isinstance(labels, (list, tuple)):
            raise ValueError(
                f"Every row must have a list of labels{where}, as the training rows have, but row {index + 1} has "
                f"{labels!r}."
            )
        found = {find(label, index) for label in labels or []}
        return [float(each in found) for each in range(len(ids))]

    return find if problem_type == "single_label_classification" else find_all


def as_number(label: Any, index: int) -> float:
    """Returns a label of regression as a number.

    Args:
        label: A number, or a text that reads as one.
        index: Number of the row, from 0, for the message.

    Raises:
        ValueError: It is no number, or not a finite one.
    """
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"Every label must be a finite number for regression, but row {index + 1} has {label!r}.")
    return number
