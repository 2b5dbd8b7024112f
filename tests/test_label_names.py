"""The names of classes, as the training rows have them."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from kakehashi.training.label_names import collect_label_names, find_class_names, find_problem_type


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
