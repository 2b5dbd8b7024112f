"""R-Drop: each text twice in training batches alone, and a loss as its paper writes it."""

import copy

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from transformers import DataCollatorWithPadding, Trainer

from kakehashi.modeling import KakehashiForSequenceClassification
from kakehashi.training.classification_loss import ClassificationLoss
from kakehashi.training.r_drop import SeeTwice, disagreement, require_dropout

SINGLE, SEVERAL, NUMBERS = "single_label_classification", "multi_label_classification", "regression"


@pytest.mark.parametrize(
    ("problem_type", "distribution"),
    [
        (SINGLE, lambda logits: Categorical(logits=logits)),
        (SEVERAL, lambda logits: Bernoulli(logits=logits)),
        (NUMBERS, lambda logits: Normal(logits, 1.0)),
    ],
)
def test_answers_are_as_far_apart_as_their_divergences_say(problem_type, distribution):
    logits = 3 * torch.randn(8, 1 if problem_type == NUMBERS else 3)
    first, second = distribution(logits[0::2]), distribution(logits[1::2])
    expected = (kl_divergence(first, second) + kl_divergence(second, first)).sum() / 2
    torch.testing.assert_close(disagreement(logits, problem_type), expected)
    assert disagreement(logits[::2].repeat_interleave(2, dim=0), problem_type) == 0


@pytest.mark.parametrize("problem_type", [SINGLE, SEVERAL])
def test_the_loss_is_that_of_both_answers_and_their_mean_divergence(problem_type):
    logits = torch.randn(6, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 2, 2, 1, 1])
    if problem_type == SEVERAL:
        labels = torch.nn.functional.one_hot(labels, 3).float()
    plain = ClassificationLoss(problem_type)({"logits": logits}, labels)
    divergence = disagreement(logits, problem_type) / (labels.numel() / 2)
    with_r_drop = ClassificationLoss(problem_type, r_drop_alpha=0.7)
    whole = with_r_drop({"logits": logits}, labels)
    torch.testing.assert_close(whole, plain + 0.7 * divergence)
    cut = [with_r_drop({"logits": logits[part]}, labels[part], labels.numel()) for part in (slice(4), slice(4, 6))]
    torch.testing.assert_close(sum(cut), whole)
    # Validation has one row for each text.
    assert with_r_drop({"logits": logits.detach()[:5]}, labels[:5]).isfinite()


def test_a_plain_trainer_trains_on_each_text_twice_however_the_step_is_cut(
    build_tiny_model, tiny_tokenizer, tiny_sentences, plain_steps
):
    rows = [
        {"input_ids": tiny_tokenizer(text)["input_ids"], "labels": index % 3}
        for index, text in enumerate(tiny_sentences[:8])
    ]
    start = build_tiny_model(KakehashiForSequenceClassification, num_labels=3)
    seen = {True: [], False: []}

    class Watched(Trainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            seen[model.training].append(inputs["input_ids"])
            return super().compute_loss(model, inputs, *args, **kwargs)

    def train(size):
        model = copy.deepcopy(start)
        arguments = plain_steps(size, num_train_epochs=2, eval_strategy="epoch")
        collate = DataCollatorWithPadding(tiny_tokenizer)
        loss = ClassificationLoss(SINGLE, r_drop_alpha=2.0)
        options = {"compute_loss_func": loss, "callbacks": [SeeTwice()]}
        Watched(model, arguments, collate, rows, rows, **options).train()
        return model

    whole = train(8)
    assert [len(ids) for ids in seen[True]] == [16, 16] and {len(ids) for ids in seen[False]} == {8}
    assert all(torch.equal(ids[0::2], ids[1::2]) for ids in seen[True])
    cut = train(2)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_any_dropout_makes_answers_differ_and_none_is_refused(build_tiny_model):
    config = build_tiny_model(KakehashiForSequenceClassification).config
    with pytest.raises(ValueError, match="`r_drop_alpha` compares two answers that differ by dropout"):
        require_dropout(config)
    require_dropout(config, lora_dropout=0.1)
    config.classifier_dropout = 0.2
    require_dropout(config)
