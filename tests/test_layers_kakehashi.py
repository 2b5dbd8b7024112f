"""The layers: what each sub-layer computes, what is added to the residual stream, dropout, checkpointing."""

import pytest
import torch

from kakehashi.modeling import KakehashiConfig, KakehashiForCausalLM, KakehashiForConditionalGeneration
from kakehashi.modeling.layers_kakehashi import KakehashiDecoderLayer, KakehashiEncoderLayer, KakehashiMLP

SOURCE = torch.tensor([[10, 11, 12, 13, 14, 2]])


@pytest.fixture
def config():
    config = KakehashiConfig(
        hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1, head_dim=8, dropout=0.5
    )
    config._attn_implementation = "eager"
    return config


@torch.no_grad()
def test_the_feed_forward_block_gates_one_projection_by_another(config):
    block, state = KakehashiMLP(config), torch.randn(config.hidden_size)
    gate, up = block.gate_proj.weight @ state, block.up_proj.weight @ state
    expected = block.down_proj.weight @ (gate / (1 + (-gate).exp()) * up)
    torch.testing.assert_close(block(state[None, None])[0, 0], expected)


@torch.no_grad()
def test_the_encoder_layer_adds_what_its_sub_layers_make_of_the_normalised_stream(config):
    layer, states = KakehashiEncoderLayer(config, 0).eval(), torch.randn(2, 5, config.hidden_size)
    expected = states + layer.self_attn(layer.self_attn_norm(states), None)[0]
    expected = expected + layer.mlp(layer.mlp_norm(expected))
    torch.testing.assert_close(layer(states, None), expected)


@torch.no_grad()
def test_the_decoder_layer_looks_at_the_source_between_its_own_past_and_the_feed_forward_block(config):
    layer = KakehashiDecoderLayer(config, 0).eval()
    states, source = torch.randn(2, 4, config.hidden_size), torch.randn(2, 6, config.hidden_size)
    expected = states + layer.self_attn(layer.self_attn_norm(states), None)[0]
    expected = expected + layer.cross_attn(layer.cross_attn_norm(expected), source)[0]
    expected = expected + layer.mlp(layer.mlp_norm(expected))
    torch.testing.assert_close(layer(states, source, None), expected)


@torch.no_grad()
def test_dropout_touches_what_is_added_and_only_in_training(config):
    layer, states = KakehashiEncoderLayer(config, 0), torch.ones(1, 1000, config.hidden_size)
    added = layer.train().add(torch.zeros_like(states), states)
    # At one half, what is left counts twice.
    assert set(added.unique().tolist()) == {0.0, 2.0}
    assert abs((added == 0).float().mean().item() - config.dropout) < 0.02
    assert torch.equal(layer.eval().add(torch.zeros_like(states), states), states)


# The name that the oldest Transformers we support knows as well.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM])
def test_gradient_checkpointing_runs_layers_again_for_the_same_gradients(build_tiny_model, model_class, use_reentrant):
    model = build_tiny_model(model_class, num_decoder_layers=2).train()
    runs = []
    for module in model.modules():
        if isinstance(module, (KakehashiEncoderLayer, KakehashiDecoderLayer)):
            module.mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    results = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        model.zero_grad()
        runs.clear()
        loss = model(input_ids=SOURCE, labels=SOURCE).loss
        loss.backward()
        results.append((loss, {name: parameter.grad for name, parameter in model.named_parameters()}, len(runs)))
    (plain_loss, plain, plain_runs), (loss, gradients, checkpointed_runs) = results
    assert checkpointed_runs == 2 * plain_runs
    torch.testing.assert_close(loss, plain_loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain[name])
