"""What is done to a model in training and after it: checkpointing, half precision, shards, devices, int8."""

import copy
import json

import pytest
import torch
from torch import nn

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
)

TOKEN_HEADS = [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]
DEEP = {"num_encoder_layers": 3, "num_decoder_layers": 3}


def batch_of(model, rows=2, length=7):
    """A padded batch with labels for a head that predicts tokens."""
    ids = torch.randint(4, 200, (rows, length))
    mask = torch.ones_like(ids)
    mask[-1, length - 2 :] = 0
    ids = ids.masked_fill(mask == 0, 0)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def gradients(model, batch):
    """The loss, and the gradient of every parameter by name."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def assert_same(found, expected, rtol=1e-4, atol=1e-5):
    (loss, gradient), (expected_loss, expected_gradient) = found, expected
    torch.testing.assert_close(loss, expected_loss, rtol=rtol, atol=atol, check_dtype=False)
    assert gradient.keys() == expected_gradient.keys()
    for name, each in gradient.items():
        torch.testing.assert_close(each, expected_gradient[name], rtol=rtol, atol=atol, check_dtype=False, msg=name)


# The name that the oldest Transformers we support knows as well.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_checkpointing_with_dropout_repeats_the_same_random_numbers(build_tiny_model, model_class, use_reentrant):
    model = build_tiny_model(model_class, dropout=0.2, attention_dropout=0.2).train()
    batch = batch_of(model)
    torch.manual_seed(1)
    expected = gradients(model, batch)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    torch.manual_seed(1)
    assert_same(gradients(model, batch), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_gradients_under_autocast_stay_near_single_precision(build_tiny_model, model_class, dtype):
    model = build_tiny_model(model_class).train()
    batch = batch_of(model)
    expected_loss, expected = gradients(model, batch)
    with torch.autocast("cpu", dtype):
        loss, found = gradients(model, batch)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected_loss, rtol=0.01, atol=0.01)
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert (gradient - expected[name]).norm() < 0.1 * expected[name].norm() + 1e-5, name


@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_weights_of_bfloat16_alone_can_be_trained(build_tiny_model, model_class):
    model = build_tiny_model(model_class).to(torch.bfloat16).train()
    batch = batch_of(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        losses.append(gradients(model, batch)[0].item())
        optimizer.step()
    assert losses[-1] < losses[0] - 0.5
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_shards_of_a_saved_model_hold_the_tied_weight_once(build_tiny_model, tmp_path, model_class):
    model = build_tiny_model(model_class)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text("utf-8"))
    assert len(set(index["weight_map"].values())) >= 2
    assert [name for name in index["weight_map"] if "embed_tokens" in name or "lm_head" in name] == [
        "model.embed_tokens.weight"
    ]
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    batch = batch_of(model)
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("size", [390, 380], ids=["more", "fewer"])
@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_a_resized_vocabulary_is_one_weight_that_is_saved_loaded_and_trained(
    build_tiny_model, tmp_path, model_class, size
):
    model = build_tiny_model(model_class)
    before = model.get_input_embeddings().weight.detach().clone()
    kept = min(size, len(before))
    model.resize_token_embeddings(size)
    model.save_pretrained(tmp_path)
    for each in (model, model_class.from_pretrained(tmp_path)):
        assert each.config.vocab_size == size
        assert torch.equal(each.get_input_embeddings().weight[:kept], before[:kept])
        weights = [parameter for name, parameter in each.named_parameters() if parameter.shape[0] == size]
        assert len(weights) == 1
        each.train()(**batch_of(each)).loss.backward()
        torch.optim.SGD(each.parameters(), lr=0.1).step()
        stacks = [stack for stack in (each.get_encoder(), each.get_decoder()) if stack is not None]
        for weight in (each.lm_head.weight, *(stack.embed_tokens.weight for stack in stacks)):
            assert weight is each.get_input_embeddings().weight


@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_layers_that_were_spread_over_memory_and_disk_compute_the_same(build_tiny_model, tmp_path, model_class):
    model = build_tiny_model(model_class, **DEEP)
    batch = batch_of(model)
    with torch.no_grad():
        expected = model(**batch).logits
    model.save_pretrained(tmp_path / "model")
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    loaded = model_class.from_pretrained(
        tmp_path / "model",
        device_map="auto",
        max_memory={"cpu": int(0.75 * size)},
        offload_folder=tmp_path / "offload",
        offload_buffers=True,
    )
    places = loaded.hf_device_map
    assert set(places.values()) == {"cpu", "disk"}
    # No layer may be torn apart: what it adds back to the residual stream would lie elsewhere.
    assert not [name for name in places if ".layers." in name and not name.split(".layers.")[1].isdigit()]
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, expected)


def test_int8_of_torch_quantizes_every_linear_layer_and_keeps_the_predictions_near(build_tiny_model):
    model = build_tiny_model(KakehashiForConditionalGeneration, **DEEP)
    batch = batch_of(model)
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    kinds = {type(module).__module__ for module in quantized.modules() if type(module).__name__ == "Linear"}
    assert kinds == {"torch.ao.nn.quantized.dynamic.modules.linear"}
    assert_near(quantized, model, batch)


def assert_near(quantized, model, batch, error=0.1):
    with torch.no_grad():
        expected, logits = model(**batch).logits, quantized(**batch).logits
    assert 0 < (logits - expected).norm() < error * expected.norm()


@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_torchao_quantizes_the_weights_of_every_linear_layer_to_int8(build_tiny_model, model_class):
    torchao = pytest.importorskip("torchao.quantization")
    model = build_tiny_model(model_class, **DEEP)
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, torchao.Int8WeightOnlyConfig())
    plain = [name for name, module in quantized.named_modules() if is_plain_linear(module)]
    assert not plain
    assert_near(quantized, model, batch_of(model))


def is_plain_linear(module):
    return isinstance(module, nn.Linear) and type(module.weight) is nn.Parameter
