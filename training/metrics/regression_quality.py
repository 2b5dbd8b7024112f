"""Errors and correlations of predicted numbers.

Loaded with `evaluate.load(<path of this file>)`, which copies the file elsewhere and reads its imports with a simple
parser: so it imports nothing of kakehashi, and one module a line.
"""

import warnings

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error

_DESCRIPTION = """\
Compares predicted numbers with right ones.
mse, mae: mean squared and mean absolute error, in the labels' unit squared and in their unit; 0 is best.
pearson: how well a straight line leads from predictions to references, from -1 to 1; 1 is best.
spearman: the same for their ranks: whether both put the rows in the same order.
Both correlations are 0 where they have no value: for one row alone, or where all predictions or references are equal.
"""

_INPUTS = """\
predictions: the predicted numbers, list of float.
references: the right ones, list of float.
"""

_CITATION = "Virtanen et al. (2020), SciPy 1.0: Fundamental Algorithms for Scientific Computing in Python."


class RegressionQuality(evaluate.Metric):
    """Errors by scikit-learn, correlations by SciPy."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        scores = {
            "mse": float(mean_squared_error(references, predictions)),
            "mae": float(mean_absolute_error(references, predictions)),
            "pearson": 0.0,
            "spearman": 0.0,
        }
        if min(np.ptp(predictions), np.ptp(references)) > 0:
            with warnings.catch_warnings():
                # Predictions that are nearly equal are told by a low correlation.
                warnings.simplefilter("ignore")
                scores["pearson"] = float(np.nan_to_num(pearsonr(predictions, references).statistic))
                scores["spearman"] = float(np.nan_to_num(spearmanr(predictions, references).statistic))
        return scores
