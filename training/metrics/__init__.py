"""Metrics as modules of `evaluate`, shipped with the package, so that none is downloaded.

name                    compares                        gives, as fractions of 1
translation_quality     texts with right answers        exact_match, chrf, bleu
classification_quality  labels with right labels        accuracy, macro_f1
multilabel_quality      sets of labels with right ones  micro_f1, macro_f1, exact_match
regression_quality      numbers with right numbers      mse, mae, pearson, spearman (no fractions)
perplexity              mean losses and token counts    loss (nats), perplexity (no fractions)
"""

import os
from importlib.resources import as_file, files

import evaluate

METRICS = (
    "translation_quality",
    "classification_quality",
    "multilabel_quality",
    "regression_quality",
    "perplexity",
)


def load_metric(name: str) -> evaluate.EvaluationModule:
    """Returns a metric of the package, ready for `.compute(predictions=…, references=…)`.

        >>> answers = {"predictions": ["猫が好きです。"], "references": [["猫が好きです。", "猫が好きだ。"]]}
        >>> load_metric("translation_quality").compute(**answers)
        {'exact_match': 1.0, 'chrf': 1.0, 'bleu': 1.0}

    Args:
        name: One of those in the table at the top of this file.

    Raises:
        ValueError: There is no metric of that name.
    """
    if name not in METRICS:
        raise ValueError(f"`name` must be one of {', '.join(METRICS)}, but it is {name!r}.")
    with as_file(files(__name__) / f"{name}.py") as path:
        # In memory, because files in a shared cache would have to be locked against other runs.
        return evaluate.load(os.fspath(path), keep_in_memory=True)
