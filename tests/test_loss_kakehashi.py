"""Labels and the token loss: shifts, smoothing, z-loss, chunks, and what a step costs in memory."""

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch import nn

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration, KakehashiForMaskedLM
from kakehashi.modeling.loss_kakehashi import TokenLoss, shift_left, shift_right, up_to_last_label


def test_the_decoder_starts_anew_in_each_segment():
    labels = torch.tensor([[7, 2, 8, 9, 2, -100]])
    segments = torch.tensor([[1, 1, 2, 2, 2, 0]])
    assert shift_right(labels, 1, 0).tolist() == [[1, 7, 2, 8, 9, 2]]
    assert shift_right(labels, 1, 0, segments).tolist() == [[1, 7, 1, 8, 9, 2]]
    assert shift_right(torch.tensor([[7, -100, 8]]), 1, 0).tolist() == [[1, 7, 0]]


def test_no_token_predicts_the_first_of_the_next_segment():
    labels = torch.tensor([[1, 7, 2, 1, 8, 2, -100]])
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 0]])
    assert shift_left(labels).tolist() == [[7, 2, 1, 8, 2, -100, -100]]
    assert shift_left(labels, segments).tolist() == [[7, 2, -100, 8, 2, -100, -100]]


def test_a_target_ends_with_its_last_label():
    labels = torch.tensor([[7, -100, 2, -100], [-100, -100, -100, -100], [7, 8, 9, 2]])
    assert up_to_last_label(labels).tolist() == [[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("shift", [shift_left, lambda labels, segments: shift_right(labels, 1, 0, segments)])
def test_segments_of_another_shape_are_refused(shift):
    with pytest.raises(ValueError, match=r"shape of the labels, \(1, 3\), got \(1, 2\)"):
        shift(torch.ones(1, 3, dtype=torch.long), torch.ones(1, 2, dtype=torch.long))


def by_hand(logits, labels, smoothing, z_weight):
    """Cross entropy, smoothing and z-loss from their formulas, one label at a time."""
    total = torch.zeros(())
    for row, label in zip(logits, labels, strict=True):
        if label == -100:
            continue
        log_denominator = row.exp().sum().log()
        log_probabilities = row - log_denominator
        target = torch.full_like(row, smoothing / len(row))
        target[label] += 1 - smoothing
        total = total - (target * log_probabilities).sum() + z_weight * log_denominator**2
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_weight", [0.0, 0.01])
def test_the_loss_is_its_formula(smoothing, z_weight):
    logits, labels = torch.randn(6, 11), torch.tensor([3, -100, 0, 10, -100, 5])
    loss, total = TokenLoss(smoothing, z_weight), by_hand(logits, labels, smoothing, z_weight)
    torch.testing.assert_close(loss.from_logits(logits, labels), total / 4)
    torch.testing.assert_close(loss.from_logits(logits, labels, 10), total / 10)
    torch.testing.assert_close(loss.from_logits(logits, labels, torch.tensor(10)), total / 10)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunked", [False, True])
def test_projecting_labelled_positions_alone_gives_the_same_loss_and_gradients(chunked, smoothing, monkeypatch):
    # 20 positions in a piece, and fewer in the last.
    monkeypatch.setattr("kakehashi.modeling.loss_kakehashi.logits_at_once", lambda device_type: 1000)
    head = nn.Linear(16, 50, bias=False)
    states = torch.randn(3, 40, 16, requires_grad=True)
    labels = torch.randint(50, (3, 40)).masked_fill(torch.rand(3, 40) < 0.3, -100)
    results = []
    for loss in (
        TokenLoss(smoothing).from_logits(head(states).flatten(0, 1), labels.flatten(), 99),
        TokenLoss(smoothing, chunked=chunked).from_states(states, head, labels, 99),
    ):
        states.grad = head.weight.grad = None
        (2 * loss).backward()
        results.append((loss.detach(), states.grad.clone(), head.weight.grad.clone()))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_pieces_in_bfloat16_are_as_near_to_the_truth_as_logits_at_once():
    head = nn.Linear(64, 500, bias=False)
    # Among them a label that the model thinks impossible, and one that it is sure of.
    states, labels = torch.randn(200, 64), torch.randint(500, (200,))
    with torch.no_grad():
        states[0], states[1] = -30 * head.weight[labels[0]].sign(), 30 * head.weight[labels[1]].sign()
    errors = {}
    expected = None
    for name, chunked in (("exact", False), ("at once", False), ("by pieces", True)):
        inputs = states.clone().requires_grad_()
        head.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=name != "exact"):
            loss = TokenLoss(chunked=chunked).from_states(inputs, head, labels)
        loss.backward()
        found = torch.cat([loss.detach()[None], inputs.grad.flatten(), head.weight.grad.flatten()])
        expected = found if expected is None else expected
        parts = (slice(1), slice(1, 1 + states.numel()), slice(1 + states.numel(), None))
        errors[name] = [float((found[part] - expected[part]).norm() / expected[part].norm()) for part in parts]
    assert max(errors["at once"]) < 0.05
    for by_pieces, at_once in zip(errors["by pieces"], errors["at once"], strict=True):
        assert by_pieces < 1.5 * at_once + 1e-3


@pytest.mark.parametrize("count", [1, 700, 3000])
def test_many_pieces_in_bfloat16_add_up_as_few_do(count, monkeypatch):
    states, labels = torch.randn(count, 16), torch.randint(50, (count,))
    head = nn.Linear(16, 50, bias=False)
    found = []
    for size in (50 * 5, 50 * count):
        monkeypatch.setattr("kakehashi.modeling.loss_kakehashi.logits_at_once", lambda device_type, size=size: size)
        head.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            loss = TokenLoss(chunked=True).from_states(states, head, labels)
        loss.backward()
        found.append((loss.detach(), head.weight.grad.clone()))
    (many, many_gradient), (few, few_gradient) = found
    torch.testing.assert_close(many, few, rtol=1e-4, atol=0)
    assert (many_gradient - few_gradient).norm() < 4e-3 * few_gradient.norm()


def test_frozen_projections_get_no_gradient_from_pieces():
    head = nn.Linear(16, 50, bias=False).requires_grad_(False)
    states, labels = torch.randn(30, 16, requires_grad=True), torch.randint(50, (30,))
    TokenLoss(chunked=True).from_states(states, head, labels).backward()
    assert head.weight.grad is None
    assert states.grad.any()


def test_pieces_are_computed_in_training_only():
    head, states = nn.Linear(16, 50, bias=False), torch.randn(30, 16)
    assert TokenLoss()._in_chunks(states, head)
    assert not TokenLoss(chunked=False)._in_chunks(states, head)
    assert not TokenLoss()._in_chunks(states[:15], head)
    with torch.no_grad():
        assert not TokenLoss(chunked=True)._in_chunks(states, head)


@pytest.mark.parametrize("count", [None, 0, torch.tensor(0), torch.tensor(0.0)])
def test_a_step_without_any_label_has_a_loss_of_zero(count):
    logits, labels = torch.randn(3, 5, requires_grad=True), torch.full((3,), -100)
    loss = TokenLoss(z_loss_weight=0.1).from_logits(logits, labels, count)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_no_label_at_all_is_a_loss_of_zero_with_gradients_of_zero(build_tiny_model):
    model = build_tiny_model(KakehashiForMaskedLM).train()
    ids = torch.tensor([[5, 6, 7]])
    loss = model(ids, labels=torch.full_like(ids, -100)).loss
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def largest_tensor(model, batch):
    """Numbers in the largest tensor that a training step computes."""
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and function is not torch.Tensor.expand:
                largest = max(largest, result.numel())
            return result

    with Watch():
        model(**batch).loss.backward()
    return largest


def test_padding_adds_no_logits(build_tiny_model):
    model = build_tiny_model(KakehashiForConditionalGeneration, vocab_size=8192).train()
    labels = torch.randint(4, 100, (2, 8))
    short = {"input_ids": torch.randint(4, 100, (2, 8)), "labels": labels}
    long = {**short, "labels": F.pad(labels, (0, 40), value=-100)}
    assert largest_tensor(model, long) == largest_tensor(model, short) == 16 * 8192


def test_the_configuration_reaches_the_loss_and_survives_saving(build_tiny_model, tmp_path):
    ids = torch.randint(4, 100, (2, 6))
    for model_class in (KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM):
        plain = build_tiny_model(model_class)
        plain.save_pretrained(tmp_path)
        other = model_class.from_pretrained(tmp_path, label_smoothing=0.2, z_loss_weight=0.01)
        other.save_pretrained(tmp_path)
        loaded = model_class.from_pretrained(tmp_path)
        losses = [model(input_ids=ids, labels=ids).loss.item() for model in (plain, other, loaded)]
        assert losses[1] == losses[2] != losses[0]


@pytest.mark.parametrize(("name", "value"), [("label_smoothing", 1.0), ("z_loss_weight", -0.1)])
def test_rates_out_of_range_are_refused(build_tiny_model, name, value):
    with pytest.raises(StrictDataclassClassValidationError, match=f"`{name}` must"):
        build_tiny_model(KakehashiForMaskedLM, **{name: value})
