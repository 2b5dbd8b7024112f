"""Attention against a naive reference, and the agreement of attention implementations."""

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from kakehashi.modeling import (
    KakehashiConfig,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
)
from kakehashi.modeling.attention_kakehashi import (
    KakehashiAttention,
    KakehashiCrossAttention,
    KakehashiRMSNorm,
    eager_attention_forward,
)
from kakehashi.modeling.positions_kakehashi import KakehashiRotaryEmbedding
from kakehashi.modeling.varlen_kakehashi import varlen_attention_forward


@pytest.fixture
def config():
    config = KakehashiConfig(hidden_size=24, num_attention_heads=6, num_key_value_heads=2, head_dim=8)
    config._attn_implementation = "eager"
    return config


def randomise(module):
    """Gives every parameter, the norms' ones too, a value that the test would notice if it were left out."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
    return module.eval()


def norm(vector, weight):
    return vector / (vector.square().mean() + 1e-6).sqrt() * weight


def turn(vector, position):
    """Rotary positions with complex numbers: feature `i` and `i + half` are one number, turned by an angle."""
    half = len(vector) // 2
    angles = position * 10_000.0 ** (-torch.arange(half) / half)
    turned = torch.complex(vector[:half], vector[half:]) * torch.polar(torch.ones(half), angles)
    return torch.cat((turned.real, turned.imag))


def naive_attention(attention, states, source, visible):
    """One row, one head, one query at a time. `visible[i][j]`: whether query `i` may see key `j`."""
    width, is_self = attention.head_dim, not attention.is_cross
    contexts = []
    for i, state in enumerate(states):
        query = attention.q_proj.weight @ state
        query = query if is_self else norm(query, attention.q_norm.weight)
        for head, part in enumerate(query.split(width)):
            part = turn(norm(part, attention.q_norm.weight), i) if is_self else part
            shared = slice(
                head // attention.num_key_value_groups * width, (head // attention.num_key_value_groups + 1) * width
            )
            keys = [norm((attention.k_proj.weight @ other)[shared], attention.k_norm.weight) for other in source]
            keys = [turn(key, j) if is_self else key for j, key in enumerate(keys)]
            scores = torch.stack(
                [part @ key / width**0.5 if visible[i][j] else part.new_tensor(-1e9) for j, key in enumerate(keys)]
            )
            values = torch.stack([(attention.v_proj.weight @ other)[shared] for other in source])
            contexts.append(scores.softmax(0) @ values)
    return torch.cat(contexts).reshape(len(states), -1) @ attention.o_proj.weight.T


def additive(visible):
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min)[None, None]


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_self_attention_equals_a_naive_reference(config, implementation, is_causal):
    config._attn_implementation = implementation
    attention = randomise(KakehashiAttention(config, 0, is_causal=is_causal))
    states = torch.randn(5, config.hidden_size)
    visible = torch.ones(5, 5).tril().bool() if is_causal else torch.tensor([[True, True, True, True, False]] * 5)
    positions = KakehashiRotaryEmbedding(config)(states, torch.arange(5)[None])
    attended, _ = attention(states[None], positions, additive(visible))
    torch.testing.assert_close(attended[0], naive_attention(attention, states, states, visible), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_cross_attention_equals_a_naive_reference(config, implementation):
    config._attn_implementation = implementation
    attention = randomise(KakehashiCrossAttention(config, 0))
    states, source = torch.randn(3, config.hidden_size), torch.randn(5, config.hidden_size)
    visible = torch.tensor([[True, True, True, False, False]] * 3)
    attended, _ = attention(states[None], source[None], additive(visible))
    torch.testing.assert_close(attended[0], naive_attention(attention, states, source, visible), rtol=1e-4, atol=1e-4)


def test_the_norm_divides_by_the_root_mean_square():
    layer = randomise(KakehashiRMSNorm(16, eps=1e-6))
    states = torch.randn(4, 16)
    torch.testing.assert_close(layer(states), torch.stack([norm(state, layer.weight) for state in states]))


def example_batch(model):
    """Two padded rows for any of the shapes; the second is shorter, in source and target."""
    ids = torch.randint(4, model.config.vocab_size, (2, 6))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    labels = ids.masked_fill(mask == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def loss_and_gradients(model, batch, implementation):
    model.set_attn_implementation(implementation)
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return loss.detach(), gradients


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    "model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]
)
def test_eager_and_sdpa_agree_forward_and_backward(build_tiny_model, model_class, mode, padded):
    model = build_tiny_model(model_class).train(mode == "train")
    batch = example_batch(model)
    if not padded:
        del batch["attention_mask"]
    expected_loss, expected = loss_and_gradients(model, batch, "eager")
    loss, gradients = loss_and_gradients(model, batch, "sdpa")
    torch.testing.assert_close(loss, expected_loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text
        )


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_fast_kernel_gets_a_flag_or_nothing_and_a_mask_only_for_padding(
    build_tiny_model, monkeypatch, mode, padded
):
    model = build_tiny_model(KakehashiForConditionalGeneration).train(mode == "train")
    model.set_attn_implementation("sdpa")
    calls, attend = [], torch.nn.functional.scaled_dot_product_attention

    def watch(query, key, value, attn_mask=None, is_causal=False, **kwargs):
        calls.append((query.shape[2], key.shape[2], None if attn_mask is None else attn_mask.dtype, is_causal))
        return attend(query, key, value, attn_mask=attn_mask, is_causal=is_causal, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    ids = torch.randint(4, 100, (2, 6))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2]) if padded else torch.ones(2, 6)
    model(input_ids=ids, attention_mask=mask, labels=ids[:, :4])
    encoder, decoder, cross = {calls[0]}, {calls[-2]}, {calls[-1]}
    source_mask = torch.float32 if padded else None
    assert encoder == {(6, 6, source_mask, False)}
    assert decoder == {(4, 4, None, True)}
    assert cross == {(4, 6, source_mask, False)}


def test_flash_attention_gets_the_lengths_of_segments_and_no_mask(build_tiny_model, monkeypatch):
    # The wheel needs a GPU, so the reference of varlen stands in: it takes the same arguments.
    model = build_tiny_model(KakehashiForConditionalGeneration).train()
    ids, segments = torch.randint(4, 100, (2, 6)), torch.tensor([[1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 2, 0]])
    labels = ids.masked_fill(segments == 0, -100)
    batch = {"input_ids": ids, "labels": labels, "segment_ids": segments, "decoder_segment_ids": segments}
    expected = model(**batch).loss
    seen = []

    def flash(module, query, key, value, attention_mask, **kwargs):
        seen.append((attention_mask, kwargs["cu_seq_lens_q"].tolist(), kwargs["max_length_k"]))
        return varlen_attention_forward(module, query, key, value, attention_mask, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", flash)
    for module in model.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = "flash_attention_2"
    torch.testing.assert_close(model(**batch).loss, expected)
    assert all(call == (None, [0, 2, 6, 10, 11], 4) for call in seen)
    assert len(seen) == model.config.num_encoder_layers + 2 * model.config.num_decoder_layers
    with pytest.raises(ValueError, match=r"`output_hidden_states` and segment ids go together with .* 'varlen'"):
        model(**batch, output_hidden_states=True)


def test_scores_become_weights_that_sum_to_one(config):
    # One query that scores five keys 1.2, 0.3, 3.1, 0.8 and 2.0: attention goes to the third above all.
    attention = KakehashiAttention(config, 0, is_causal=False)
    scores = torch.tensor([1.2, 0.3, 3.1, 0.8, 2.0])
    key = scores[None, None, :, None].expand(1, 2, 5, 1)
    value = torch.eye(5)[None, None].expand(1, 2, 5, 5)
    context, weights = eager_attention_forward(attention, torch.ones(1, 6, 1, 1), key, value, None, scaling=1.0)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 6, 1))
    assert [round(weight, 2) for weight in weights[0, 0, 0].tolist()] == [0.09, 0.04, 0.61, 0.06, 0.20]
    torch.testing.assert_close(context[0, 0], weights[0, :, 0])


@torch.no_grad()
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    "model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]
)
def test_flex_attention_agrees_with_eager(build_tiny_model, model_class, padded):
    model = build_tiny_model(model_class)
    batch = example_batch(model)
    if not padded:
        del batch["attention_mask"]
    model.set_attn_implementation("eager")
    expected = model(**batch)
    model.set_attn_implementation("flex_attention")
    # Compiling takes minutes; the plain form computes the same.
    with torch.compiler.set_stance("force_eager"):
        outputs = model(**batch)
    torch.testing.assert_close(outputs.loss, expected.loss)
    # What the model makes of padding is nobody's business.
    real = batch["labels"] != -100
    torch.testing.assert_close(outputs.logits[real], expected.logits[real], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_row_of_padding_alone_gives_finite_numbers(build_tiny_model, implementation):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    model.set_attn_implementation(implementation)
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    ids = torch.tensor([[5, 6, 7], [0, 0, 0]])
    logits = model(ids, mask, decoder_input_ids=ids, decoder_attention_mask=mask).logits
    assert logits.isfinite().all()


def test_dropout_of_attention_weights_acts_in_training_alone(build_tiny_model):
    for implementation in ("eager", "sdpa"):
        model = build_tiny_model(KakehashiForMaskedLM, attention_dropout=0.5)
        model.set_attn_implementation(implementation)
        ids = torch.arange(5, 11)[None]
        assert torch.equal(model(ids).logits, model(ids).logits)
        model.train()
        assert not torch.equal(model(ids).logits, model(ids).logits)
