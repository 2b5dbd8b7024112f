"""Accuracy and macro-F1 of predicted labels.

Loaded with `evaluate.load(<path of this file>)`, which copies the file elsewhere and reads its imports with a simple
parser: so it imports nothing of kakehashi, and one module a line.
"""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score

_DESCRIPTION = """\
Compares predicted labels with right ones. Each number lies between 0 and 1, and 1 is best.
accuracy: share of rows predicted right; of several labels a row, all of them.
macro_f1: F1 of each label that occurs in predictions or references, averaged with equal weight.
"""

_INPUTS = """\
predictions: the predicted label ids, list of int; or for multi-label rows, a list of 0 and 1 of each label.
references: the right ones, in the same form.
"""

_CITATION = "Pedregosa et al. (2011), Scikit-learn: Machine Learning in Python."


class ClassificationQuality(evaluate.Metric):
    """Accuracy and macro-F1, computed by scikit-learn."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": label, "references": label}),
                datasets.Features({"predictions": datasets.List(label), "references": datasets.List(label)}),
            ],
        )

    def _compute(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        }
