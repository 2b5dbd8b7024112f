"""A training step compiles into one graph that serves every length."""

import pytest
import torch

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration


def batch_of(model, rows=2, length=7):
    """A padded batch with labels for a head that predicts tokens."""
    ids = torch.randint(4, 200, (rows, length))
    mask = torch.ones_like(ids)
    mask[-1, length - 2 :] = 0
    ids = ids.masked_fill(mask == 0, 0)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def gradients(model, batch, run=None):
    """The loss, and the gradient of every parameter by name, of the model or of what runs in its place."""
    model.zero_grad()
    loss = (model if run is None else run)(**batch).loss
    loss.backward()
    return loss.detach(), {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def assert_same(found, expected, rtol=1e-4, atol=1e-5):
    (loss, gradient), (expected_loss, expected_gradient) = found, expected
    torch.testing.assert_close(loss, expected_loss, rtol=rtol, atol=atol, check_dtype=False)
    assert gradient.keys() == expected_gradient.keys()
    for name, each in gradient.items():
        torch.testing.assert_close(each, expected_gradient[name], rtol=rtol, atol=atol, check_dtype=False, msg=name)


# The encoder alone is a part of the first.
@pytest.mark.parametrize("model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM])
def test_a_training_step_compiles_into_one_graph_for_all_lengths(build_tiny_model, compiler, model_class):
    model = build_tiny_model(model_class).train()
    # Tracing is what a model can break; generating machine code for it would take a minute.
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    # The first length is compiled as a number, the second as a variable.
    for length in (7, 9):
        batch = batch_of(model, length=length)
        assert_same(gradients(model, batch, compiled), gradients(model, batch))
    with torch.compiler.set_stance("fail_on_recompile"):
        for length in (12, 31, 8):
            batch = batch_of(model, length=length)
            assert_same(gradients(model, batch, compiled), gradients(model, batch))
    assert not compiler["graph_break"]


def test_a_step_in_bfloat16_compiles_into_one_graph_as_well(build_tiny_model, compiler):
    model = build_tiny_model(KakehashiForConditionalGeneration).train()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for length in (7, 9):
        batch = batch_of(model, length=length)
        with torch.autocast("cpu", torch.bfloat16):
            loss, expected = compiled(**batch).loss, model(**batch).loss
        torch.testing.assert_close(loss, expected, rtol=0.01, atol=0)
    assert not compiler["graph_break"]
