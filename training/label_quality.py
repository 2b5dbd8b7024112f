"""Which numbers say how good a classifier is, by the kind of its labels.

kind                           numbers
single_label_classification    accuracy, macro_f1
multi_label_classification     micro_f1, macro_f1, exact_match
regression                     mse, mae, pearson, spearman
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import EvalPrediction, Seq2SeqTrainingArguments

from kakehashi.training.metrics import load_metric

SCORES: dict[str, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "macro_f1"),
    "multi_label_classification": ("micro_f1", "macro_f1", "exact_match"),
    "regression": ("mse", "mae", "pearson", "spearman"),
}

ERRORS = ("mse", "mae")
"""Of these numbers those that are better the smaller they are."""


def measure_labels(problem_type: str, scores: NDArray[Any], references: NDArray[Any]) -> dict[str, float]:
    """Returns the numbers of the table at the top of this file.

    Args:
        problem_type: As Transformers names it.
        scores: What the model said, shape (rows, num_labels): logits or probabilities where one label is right,
            0 and 1 where several are, numbers for regression.
        references: Label ids, shape (rows,); 0 and 1, shape (rows, num_labels); or numbers, shape (rows,) or
            (rows, num_labels).
    """
    if problem_type == "regression":
        metric, predictions = load_metric("regression_quality"), scores.reshape(-1)
        return metric.compute(predictions=predictions, references=references.reshape(-1))
    name = "multilabel_quality" if problem_type == "multi_label_classification" else "classification_quality"
    answers = scores if problem_type == "multi_label_classification" else scores.argmax(axis=-1)
    return load_metric(name).compute(predictions=answers.astype(np.int64), references=references.astype(np.int64))


def make_compute_metrics(problem_type: str) -> Callable[[EvalPrediction], dict[str, float]]:
    """Returns what Trainer calls as `compute_metrics`.

    A label of several counts as predicted where its probability exceeds one half.

    Args:
        problem_type: As Transformers names it.
    """

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        logits = np.asarray(prediction.predictions)
        scores = logits > 0 if problem_type == "multi_label_classification" else logits
        return measure_labels(problem_type, scores, np.asarray(prediction.label_ids))

    return compute_metrics


def keep_logits(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Returns the logits alone, for Trainer's `preprocess_logits_for_metrics`: it would keep all that a model returns.

    Args:
        outputs: What a model returns beside its loss; an encoder-decoder of another family adds its context vectors.
        labels: As Trainer passes them.
    """
    logits: torch.Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits


def require_known_metric(training_arguments: Seq2SeqTrainingArguments, problem_type: str) -> None:
    """Raises a ValueError if the best checkpoint is to be chosen by a number that the labels do not give.

    Args:
        training_arguments: `metric_for_best_model` names the number; None means the loss.
        problem_type: As Transformers names it.
    """
    name = training_arguments.metric_for_best_model
    known = ("loss", *SCORES[problem_type])
    if name is not None and name.removeprefix("eval_") not in known:
        raise ValueError(
            f"`metric_for_best_model` must be one of {', '.join(known)} for {problem_type} labels, got {name!r}"
        )
