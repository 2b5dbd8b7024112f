"""F1 and exact match of rows that have several labels.

Loaded with `evaluate.load(<path of this file>)`, which copies the file elsewhere and reads its imports with a simple
parser: so it imports nothing of kakehashi, and one module a line.
"""

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score

_DESCRIPTION = """\
Compares predicted sets of labels with right ones. Each number lies between 0 and 1, and 1 is best.
micro_f1: F1 over all labels of all rows, so that frequent labels count most.
macro_f1: F1 of each label, averaged with equal weight; a label that never occurs and is never predicted counts as 0.
exact_match: share of rows with exactly the right labels.
"""

_INPUTS = """\
predictions: for each row a list of 0 and 1, one for each label.
references: the right ones, in the same form.
"""

_CITATION = "Pedregosa et al. (2011), Scikit-learn: Machine Learning in Python."


class MultilabelQuality(evaluate.Metric):
    """Micro-F1, macro-F1 and exact match, computed by scikit-learn."""

    def _info(self) -> evaluate.MetricInfo:
        labels = datasets.List(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": labels, "references": labels}),
        )

    def _compute(self, predictions: list[list[int]], references: list[list[int]]) -> dict[str, float]:
        # One column is taken for a choice between two classes, of which the absence of the label would be one.
        scored = {"labels": [1] if len(references[0]) == 1 else None, "zero_division": 0}
        return {
            "micro_f1": float(f1_score(references, predictions, average="micro", **scored)),
            "macro_f1": float(f1_score(references, predictions, average="macro", **scored)),
            "exact_match": float(accuracy_score(references, predictions)),
        }
