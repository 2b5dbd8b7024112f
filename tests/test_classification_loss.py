"""Weighted labels and smoothed targets: as a reference written out says, in value, gradient and Trainer."""

import copy

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer

from kakehashi.modeling import KakehashiForSequenceClassification
from kakehashi.training.classification_loss import ClassificationLoss, find_class_weights

SINGLE, SEVERAL = "single_label_classification", "multi_label_classification"


def rows_with(labels):
    return Dataset.from_dict({"labels": labels})


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_each_text_counts_by_the_weight_of_its_label_in_loss_and_gradient(smoothing):
    logits = torch.randn(4, 3, requires_grad=True)
    labels, weights = torch.tensor([0, 2, 2, 1]), torch.tensor([1.0, 0.5, 4.0])
    loss = ClassificationLoss(SINGLE, weights, smoothing)({"logits": logits}, labels)
    rows = []
    for row, label in zip(logits, labels, strict=True):
        log_probabilities = row - row.exp().sum().log()
        target = torch.full((3,), smoothing / 3)
        target[label] += 1 - smoothing
        rows.append(-weights[label] * (target * log_probabilities).sum())
    expected = sum(rows) / 4
    torch.testing.assert_close(loss, expected)
    found, reference = (torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (loss, expected))
    torch.testing.assert_close(found, reference)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_presence_of_a_label_counts_by_its_weight_where_a_text_may_have_several(smoothing):
    logits = torch.randn(4, 3, requires_grad=True)
    labels, weights = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]).float(), torch.tensor([1.0, 0.5, 4.0])
    loss = ClassificationLoss(SEVERAL, weights, smoothing)({"logits": logits}, labels)
    p = logits.sigmoid()
    present = -((1 - smoothing / 2) * p.log() + smoothing / 2 * (1 - p).log())
    absent = -(smoothing / 2 * p.log() + (1 - smoothing / 2) * (1 - p).log())
    expected = (weights * labels * present + (1 - labels) * absent).sum() / 12
    found, reference = (torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (loss, expected))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, reference)


@pytest.mark.parametrize("problem_type", [SINGLE, SEVERAL])
def test_a_weighted_and_smoothed_loss_is_least_where_a_text_without_the_rare_label_gets_none(problem_type):
    # Were the smoothed share of the rare label weighed too, its probability would be above one half here.
    smoothing, weights = 0.1, torch.tensor([0.5, 50.0])
    labels = torch.tensor([0]) if problem_type == SINGLE else torch.tensor([[1.0, 0.0]])
    loss = ClassificationLoss(problem_type, weights, smoothing)
    logits = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure():
        optimizer.zero_grad()
        value = loss({"logits": logits}, labels)
        value.backward()
        return value

    optimizer.step(closure)
    rare = logits.softmax(-1)[0, 1] if problem_type == SINGLE else logits.sigmoid()[0, 1]
    assert float(rare.detach()) == pytest.approx(0.05, abs=1e-3)


def test_without_weights_the_loss_is_that_of_the_model(build_tiny_model):
    ids = torch.randint(4, 200, (4, 6))
    for problem_type, labels in (
        (SINGLE, torch.tensor([0, 1, 2, 1])),
        (SEVERAL, torch.tensor([[0.0, 1.0, 1.0]] * 4)),
        ("regression", torch.tensor([0.5, 1.0, -1.0, 2.0])),
    ):
        num_labels = 1 if problem_type == "regression" else 3
        model = build_tiny_model(KakehashiForSequenceClassification, problem_type=problem_type, num_labels=num_labels)
        output = model(ids, labels=labels)
        torch.testing.assert_close(ClassificationLoss(problem_type)(output, labels), output.loss)


@pytest.mark.parametrize("problem_type", [SINGLE, SEVERAL])
def test_a_plain_trainer_takes_the_same_step_however_it_is_cut(
    build_tiny_model, tiny_tokenizer, tiny_sentences, plain_steps, problem_type
):
    labels = [index % 3 for index in range(8)]
    if problem_type == SEVERAL:
        labels = [[float(label == each) for each in range(3)] for label in labels]
    rows = [
        {"input_ids": tiny_tokenizer(text)["input_ids"], "labels": label}
        for text, label in zip(tiny_sentences, labels, strict=False)
    ]
    start = build_tiny_model(KakehashiForSequenceClassification, num_labels=3, problem_type=problem_type)
    loss = ClassificationLoss(problem_type, torch.tensor([1.0, 8.0, 0.25]))

    def step(size, **options):
        model = copy.deepcopy(start)
        arguments = plain_steps(size, max_steps=1, lr_scheduler_type="constant")
        collate = DataCollatorWithPadding(tiny_tokenizer)
        Trainer(model, arguments, collate, train_dataset=rows, **options).train()
        return model

    whole, cut, unweighted = (step(8, compute_loss_func=loss), step(2, compute_loss_func=loss), step(8))
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    # One step down the gradient that the reference gives.
    model = copy.deepcopy(start).train()
    batch = DataCollatorWithPadding(tiny_tokenizer)(rows)
    target = batch.pop("labels")
    loss(model(**batch), target).backward()
    moved = start.score.weight - 0.1 * model.score.weight.grad
    torch.testing.assert_close(whole.score.weight, moved, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(unweighted.score.weight, moved, atol=1e-4)


def test_balanced_gives_every_label_the_same_say():
    weights = find_class_weights("balanced", rows_with([0, 0, 0, 1]), ["a", "b", "never seen"], SINGLE)
    assert weights.tolist() == pytest.approx([4 / 6, 2.0, 1.0])
    several = rows_with([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert find_class_weights("balanced", several, ["a", "b", "c"], SEVERAL).tolist() == [0.5, 1.0, 1.0]


def test_weights_by_name_leave_the_others_at_one():
    names = ["1", "2", "3"]
    assert find_class_weights({2: 5, "3": 0.5}, rows_with([0, 1]), names, SINGLE).tolist() == [1.0, 5.0, 0.5]
    assert find_class_weights(None, rows_with([0, 1]), names, SINGLE) is None
    with pytest.raises(ValueError, match="must name labels of the training rows, got 'spam'; nearest: 'spams'"):
        find_class_weights({"spam": 2}, rows_with([0, 1]), ["ham", "spams"], SINGLE)


def test_regression_has_no_classes_to_weigh():
    with pytest.raises(ValueError, match="`class_weights` must be left out for regression"):
        find_class_weights("balanced", rows_with([0.5]), [], "regression")
    with pytest.raises(ValueError, match="`label_smoothing_factor` must be left out for regression"):
        ClassificationLoss("regression", label_smoothing=0.1)
