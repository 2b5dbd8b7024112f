"""The numbers that judge a classifier, by the kind of its labels."""

import numpy as np
import pytest
import torch
from transformers import EvalPrediction, Seq2SeqTrainingArguments

from kakehashi.training.label_quality import (
    SCORES,
    keep_logits,
    make_compute_metrics,
    measure_labels,
    require_known_metric,
)


def compute(problem_type, logits, labels):
    prediction = EvalPrediction(predictions=np.array(logits), label_ids=np.array(labels))
    return make_compute_metrics(problem_type)(prediction)


def test_every_kind_of_labels_gives_the_numbers_it_promises():
    single = compute("single_label_classification", [[0.1, 0.9], [2.0, -1.0]], [1, 1])
    several = compute("multi_label_classification", [[0.1, -0.9], [2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    numbers = compute("regression", [[0.5], [1.0], [3.0]], [0.5, 2.0, 3.0])
    for found, problem_type in zip((single, several, numbers), SCORES, strict=True):
        assert tuple(found) == SCORES[problem_type]
    assert single == pytest.approx({"accuracy": 0.5, "macro_f1": 1 / 3})
    assert several == pytest.approx({"micro_f1": 0.8, "macro_f1": (2 / 3 + 1) / 2, "exact_match": 0.5})
    assert numbers["mse"] == pytest.approx(1 / 3) and numbers["spearman"] == pytest.approx(1.0)


def test_numbers_of_regression_may_stand_in_a_column():
    assert measure_labels("regression", np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]))["mae"] == 0.5


def test_of_all_that_a_model_returns_its_logits_are_kept():
    logits, states = torch.ones(2, 3), torch.zeros(2, 5, 4)
    assert keep_logits(logits, torch.zeros(2)) is logits and keep_logits((logits, states), torch.zeros(2)) is logits


def test_the_best_checkpoint_is_chosen_by_a_number_that_exists(tmp_path):
    def check(name, problem_type):
        require_known_metric(Seq2SeqTrainingArguments(str(tmp_path), metric_for_best_model=name), problem_type)

    check("eval_macro_f1", "multi_label_classification")
    check("loss", "regression")
    check(None, "regression")
    with pytest.raises(ValueError, match=r"must be one of loss, mse, mae, .* for regression labels, got 'accuracy'"):
        check("accuracy", "regression")
