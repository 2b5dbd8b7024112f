"""The names of classes, as the training rows have them."""

import pytest
from datasets import ClassLabel, Dataset, Features, Json, LargeList, List, Value

from kakehashi.training.label_names import (
    collect_label_names,
    find_class_names,
    find_problem_type,
    label_encoder,
    label_reader,
    read_labels,
)


def test_labels_may_be_numbers_or_classes_of_the_hub():
    assert collect_label_names(Dataset.from_dict({"label": [10, 2, 2]}), "label") == ["2", "10"]
    features = Features({"label": ClassLabel(names=["no", "yes"]), "text": Value("string")})
    rows = Dataset.from_dict({"label": [1, 1], "text": ["a", "b"]}, features=features)
    assert collect_label_names(rows, "label") == ["no", "yes"]


def test_a_single_label_and_missing_labels_are_refused():
    with pytest.raises(ValueError, match="at least two different labels, but the only one is `act`"):
        collect_label_names(Dataset.from_dict({"label": ["act", "act"]}), "label")
    with pytest.raises(ValueError, match="Every row must have a label in `label`, but row 2 has none"):
        collect_label_names(Dataset.from_dict({"label": ["act", None]}), "label")


def test_the_kind_of_labels_follows_from_their_column():
    for labels, kind, names in [
        (["b", "a"], "single_label_classification", ["a", "b"]),
        ([["b"], ["a", "c"]], "multi_label_classification", ["a", "b", "c"]),
        ([0.5, 1.5], "regression", []),
    ]:
        rows = Dataset.from_dict({"label": labels})
        assert find_problem_type(rows, "label") == kind
        assert find_class_names(rows, "label") == names


def test_numbers_that_a_file_keeps_as_text_are_numbers_if_all_are_and_some_have_a_point():
    for labels, kind in [
        (["0.25", "1", "-1.5e3", " .5 "], "regression"),
        (["1", "2"], "single_label_classification"),
        (["1.0", "beta"], "single_label_classification"),
        (["1.0.2", "1.1"], "single_label_classification"),
        (["0.5", None], "single_label_classification"),
    ]:
        assert find_problem_type(Dataset.from_dict({"label": labels}), "label") == kind, labels


def test_a_number_that_is_none_is_told_by_its_row():
    with pytest.raises(ValueError, match="must be a finite number for regression, but row 2 has None"):
        find_class_names(Dataset.from_dict({"label": [0.5, None]}), "label")


def test_a_row_may_have_none_of_several_labels_but_not_one_without_a_name():
    rows = Dataset.from_dict({"label": [["b"], None, [], ["a", "b"]]})
    assert collect_label_names(rows, "label") == ["a", "b"]
    for nothing in (None, ""):
        rows = Dataset.from_dict({"label": [["b"], ["a", nothing]]})
        with pytest.raises(ValueError, match="Every row must have a label in `label`, but row 2 has none"):
            collect_label_names(rows, "label")


def test_lists_of_classes_of_the_hub_go_by_their_names():
    features = Features({"label": List(ClassLabel(names=["joy", "anger"]))})
    rows = Dataset.from_dict({"label": [[0], [0, 1], []]}, features=features)
    assert collect_label_names(rows, "label") == ["joy", "anger"]
    encode, _ = label_encoder(rows, "label", ["joy", "anger"], "multi_label_classification")
    assert [encode(labels, 0) for labels in rows["label"]] == [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


def test_labels_are_read_as_the_names_of_their_classes():
    single = Features({"label": ClassLabel(names=["2", "1", "0"])})
    assert read_labels(Dataset.from_dict({"label": [0, 2, None]}, features=single), "label") == ["2", "0", None]
    several = Features({"label": List(ClassLabel(names=["joy", "anger"]))})
    assert read_labels(Dataset.from_dict({"label": [[1], None]}, features=several), "label") == [["anger"], None]
    assert read_labels(Dataset.from_dict({"label": ["a", "b"]}), "label") == ["a", "b"]


def test_a_negative_number_in_place_of_a_class_is_no_label():
    features = Features({"label": ClassLabel(names=["no", "yes"])})
    rows = Dataset.from_dict({"label": [1, -1]}, features=features)
    assert read_labels(rows, "label") == ["yes", None]
    with pytest.raises(ValueError, match="Every row must have a label in `label`, but row 2 has none"):
        collect_label_names(rows, "label")
    encode, _ = label_encoder(rows, "label", ["no", "yes"], "single_label_classification")
    with pytest.raises(ValueError, match="one of the training labels, but row 2 has -1; known are `no`, `yes`"):
        encode(-1, 1)


def test_large_lists_of_arrow_are_lists():
    rows = Dataset.from_dict({"label": [["b"], ["a", "b"]]}, Features({"label": LargeList(Value("string"))}))
    assert find_problem_type(rows, "label") == "multi_label_classification"
    assert collect_label_names(rows, "label") == ["a", "b"]
    features = Features({"label": LargeList(ClassLabel(names=["joy", "anger"]))})
    assert read_labels(Dataset.from_dict({"label": [[1], [0]]}, features), "label") == [["anger"], ["joy"]]


@pytest.mark.parametrize(
    ("labels", "row", "value"),
    [
        (["a", 1], 2, "1"),
        ([True, 1], 2, "1"),
        (["a", ["a", "b"]], 2, r"\['a', 'b'\]"),
        ([{"x": 1}, {"x": 2}], 1, "{'x': 1}"),
        ([["a"], [1]], 2, "1"),
        ([[], [["a"]]], 2, r"\['a'\]"),
        ([["a"], [0.5]], 2, "0.5"),
    ],
)
def test_labels_that_cannot_be_names_of_one_kind_are_told_by_their_row(labels, row, value):
    feature = List(Json()) if isinstance(labels[0], list) else Json()
    rows = Dataset.from_dict({"label": labels}, Features({"label": feature}))
    message = f"must be text or a whole number, and all of them of one kind, but row {row} has {value}"
    with pytest.raises(ValueError, match=message):
        find_class_names(rows, "label")


@pytest.mark.parametrize("label", ["bc", 7])
def test_one_label_in_place_of_a_list_is_told_by_its_row(label):
    rows = Dataset.from_dict({"label": [label]})
    encode, _ = label_encoder(rows, "label", ["b", "c", "7"], "multi_label_classification")
    with pytest.raises(ValueError, match=f"must have a list of labels in `label`, .* but row 3 has {label!r}"):
        encode(label, 2)


def test_of_many_labels_the_message_shows_some():
    read = label_reader([f"label {number}" for number in range(33)], "single_label_classification")
    assert read("label 32", 0) == 32
    with pytest.raises(ValueError, match=r"row 2 has 'weather'; known are `label 0`, .*, `label 29` and 3 more"):
        read("weather", 1)
