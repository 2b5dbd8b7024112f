"""Estimates of memory beside what torch keeps."""

import contextlib

import pytest
import torch

from kakehashi.modeling import (
    KakehashiConfig,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
)
from kakehashi.training.memory import ParameterCounts, activation_bytes, estimate_memory, model_on_meta
from kakehashi.training.optimizer import MuonAdamW

ROWS, SOURCE, TARGET = 2, 128, 96
SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_encoder_layers": 5,
    "num_decoder_layers": 4,
}


def kept_bytes(model, batch, bf16):
    """Bytes of everything kept for the backward pass that is neither a parameter nor a bfloat16 copy of one."""
    parameters = {each.untyped_storage().data_ptr() for each in model.parameters()}
    widths = {tuple(each.shape) for each in model.parameters()} | {
        tuple(each.t().shape) for each in model.parameters()
    }
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters and tuple(tensor.shape) not in widths:
            # Held, so that no other tensor takes the same place.
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        model(**batch)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]
)
def test_activations_are_those_that_torch_keeps(model_class, bf16):
    model = model_class(KakehashiConfig(**SIZES)).train()
    batch = {"input_ids": torch.randint(5, 60, (ROWS, SOURCE))}
    pair = model_class is KakehashiForConditionalGeneration
    # Only one label, so that next to nothing is kept for the loss.
    batch["labels"] = torch.full((ROWS, TARGET if pair else SOURCE), -100)
    batch["labels"][0, 3] = 7
    if pair:
        batch["decoder_input_ids"] = torch.randint(5, 60, (ROWS, TARGET))
    expected = activation_bytes(model.config, ROWS * SOURCE, ROWS * TARGET * pair, bf16=bf16)
    assert kept_bytes(model, batch, bf16) == pytest.approx(expected, rel=0.05)


def test_gradient_checkpointing_keeps_little_more_than_one_layer():
    config = KakehashiConfig(**{**SIZES, "num_encoder_layers": 20})
    model = KakehashiForConditionalGeneration(config).train()
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    labels = torch.full((ROWS, TARGET), -100)
    labels[0, 3] = 7
    batch = {"input_ids": torch.randint(5, 60, (ROWS, SOURCE)), "labels": labels}
    tokens = (ROWS * SOURCE, ROWS * TARGET)
    estimate = activation_bytes(config, *tokens, bf16=False, gradient_checkpointing=True)
    whole = activation_bytes(config, *tokens, bf16=False)
    # The layer that is computed once more is not kept by the forward pass.
    assert kept_bytes(model, batch, False) < estimate < 0.25 * whole


@pytest.mark.parametrize("use_muon", [False, True])
def test_the_optimizer_holds_as_much_as_estimated(use_muon):
    model = KakehashiForConditionalGeneration(KakehashiConfig(**SIZES))
    optimizer = MuonAdamW(model, 1e-3) if use_muon else torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors = [each for state in optimizer.state.values() for each in state.values() if torch.is_tensor(each)]
    held = sum(each.numel() * each.element_size() for each in tensors if each.ndim)
    estimate = estimate_memory(model, source_tokens=10, target_tokens=10, use_muon=use_muon, bf16=False)
    assert estimate.optimizer == held
    assert estimate.weights == estimate.gradients == 4 * model.num_parameters()


def test_shards_divide_what_belongs_to_the_weights_alone():
    model = model_on_meta(KakehashiConfig(**SIZES))
    whole = estimate_memory(model, source_tokens=1000, target_tokens=500)
    eighth = estimate_memory(model, source_tokens=1000, target_tokens=500, shards=8)
    assert eighth.optimizer == whole.optimizer / 8
    assert eighth.activations == whole.activations
    assert eighth.total < whole.total


def test_logits_at_once_cost_the_vocabulary_and_in_pieces_do_not():
    model = model_on_meta(KakehashiConfig.preset("nano", vocab_size=32_000))
    at_once = estimate_memory(model, source_tokens=100_000, target_tokens=100_000, chunked_loss=False, bf16=False)
    in_pieces = estimate_memory(model, source_tokens=100_000, target_tokens=100_000, device_type="cpu")
    assert at_once.logits == 100_000 * 32_000 * 12
    assert in_pieces.logits < at_once.logits / 100


def test_parameters_are_counted_once_where_they_stand(build_tiny_model):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    counts = ParameterCounts.of_model(model)
    assert counts.total == model.num_parameters()
    assert counts.embedding == model.get_input_embeddings().weight.numel()
    assert counts.encoder > 0 and counts.decoder > 0 and counts.head == 0
    causal = ParameterCounts.of_model(build_tiny_model(KakehashiForCausalLM))
    assert (causal.encoder, causal.decoder > 0) == (0, True)
    classifier = ParameterCounts.of_model(build_tiny_model(KakehashiForSequenceClassification, num_labels=3))
    assert (classifier.decoder, classifier.head) == (0, 3 * 32)


@pytest.mark.parametrize(("preset", "millions"), [("base", 165), ("large", 520)])
def test_presets_are_counted_without_weights(preset, millions):
    model = model_on_meta(KakehashiConfig.preset(preset))
    assert next(model.parameters()).is_meta
    assert 0.5 * millions < model.num_parameters() / 1e6 < 1.5 * millions
