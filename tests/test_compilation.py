"""Layers are compiled by themselves, share their graphs, and on a CPU draw what they would draw uncompiled."""

import shutil

import pytest
import torch
import torch._inductor.config

from kakehashi.modeling import KakehashiForConditionalGeneration
from kakehashi.training.compilation import compile_layers, draw_like_eager


def gradients(model, batch):
    """The loss, and the gradient of every parameter by name."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), {name: each.grad.clone() for name, each in model.named_parameters()}


# On a CPU the blocks of varlen stay outside the graphs: each layer is cut at its attentions.
@pytest.mark.parametrize("implementation", ["sdpa", "varlen"])
def test_layers_share_the_graphs_of_their_stack_and_keep_their_names(build_tiny_model, compiler, implementation):
    counts = []
    for layers in (1, 3):
        sizes = {"num_encoder_layers": layers, "num_decoder_layers": layers}
        model = build_tiny_model(KakehashiForConditionalGeneration, **sizes).train()
        model.set_attn_implementation(implementation)
        ids = torch.randint(4, 200, (2, 7))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        expected, names = gradients(model, batch), list(model.state_dict())
        torch._dynamo.reset()
        compiler.clear()
        compile_layers(model, backend="aot_eager")
        torch.testing.assert_close(gradients(model, batch), expected, rtol=1e-4, atol=1e-5)
        counts.append(compiler["stats"]["unique_graphs"])
        assert list(model.state_dict()) == names
    assert counts[0] == counts[1] > 0
    if implementation == "sdpa":
        assert counts[0] == 2


@pytest.mark.skipif(shutil.which("g++") is None, reason="code for a CPU is compiled by g++")
def test_compiled_dropout_on_a_cpu_is_that_of_eager_code(compiler):
    dropout, states = torch.nn.Dropout(0.5), torch.ones(64, 64)
    compiled = torch.compile(dropout)
    with torch._inductor.config.patch(fallback_random=False):
        draw_like_eager(torch.device("cpu"))
        torch.manual_seed(0)
        expected = dropout(states)
        torch.manual_seed(0)
        assert torch.equal(compiled(states), expected)
    assert compiler["stats"]["unique_graphs"] == 1


def test_elsewhere_compiled_code_draws_as_it_would():
    with torch._inductor.config.patch(fallback_random=False):
        draw_like_eager(torch.device("cuda"))
        assert not torch._inductor.config.fallback_random
