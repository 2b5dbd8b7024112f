"""The start of training: a first loss of guessing at every size and shape, and activations that depth leaves alone."""

import math
from itertools import pairwise

import pytest
import torch

from kakehashi.modeling import (
    KakehashiConfig,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
)
from kakehashi.modeling.configuration_kakehashi import PRESETS

HEADS = [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]


def random_batch(model_class, config, rows=8, length=32):
    """Random tokens: nothing can be known of them but how many there are."""
    ids = torch.randint(4, config.vocab_size, (rows, length))
    if model_class is KakehashiForConditionalGeneration:
        return {"input_ids": ids, "labels": torch.randint(4, config.vocab_size, (rows, length))}
    if model_class is KakehashiForCausalLM:
        return {"input_ids": ids, "labels": ids}
    hidden = torch.rand(ids.shape) < 0.3
    return {
        "input_ids": ids.masked_fill(hidden, config.mask_token_id),
        "labels": ids.masked_fill(~hidden, -100),
    }


@torch.no_grad()
@pytest.mark.parametrize("vocab_size", [8_000, 32_000])
@pytest.mark.parametrize("model_class", HEADS)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_first_loss_is_that_of_guessing_at_every_width(preset, model_class, vocab_size):
    # What the first loss hangs on is the width. What all layers of a stack write together has the same size at any
    # depth, which another test holds, so a few layers of the larger presets stand for all of them.
    depth = {"num_encoder_layers": 2, "num_decoder_layers": 1}
    config = KakehashiConfig.preset(preset, vocab_size=vocab_size, **depth)
    loss = model_class(config).eval()(**random_batch(model_class, config)).loss.item()
    assert loss == pytest.approx(math.log(vocab_size), rel=0.05)


@torch.no_grad()
@pytest.mark.parametrize("hidden_size", [128, 1024])
def test_a_token_does_not_predict_itself_however_wide_the_model(hidden_size):
    config = KakehashiConfig.preset(
        "nano", vocab_size=1000, hidden_size=hidden_size, num_encoder_layers=2, num_decoder_layers=2
    )
    model = KakehashiForCausalLM(config).eval()
    ids = torch.randint(4, 1000, (4, 16))
    own = model(ids).logits.gather(2, ids[..., None])
    # The tied embedding is what a token enters with and what its logit is measured by.
    assert 0 < own.mean() < 7


def scales(model, batch):
    """The root mean square of the residual stream as it enters the first layer and as it leaves each, by stack."""
    with torch.no_grad():
        outputs = model.eval()(**batch, output_hidden_states=True, use_cache=False)
    stacks = {name: outputs.get(f"{name}_hidden_states") for name in ("encoder", "decoder")}
    if stacks["decoder"] is None:
        stacks = {"decoder" if model.get_encoder() is None else "encoder": outputs.hidden_states}
    # The last entry is after the final norm.
    return {name: [state.square().mean().sqrt().item() for state in states[:-1]] for name, states in stacks.items()}


def show(when, found):
    for name, values in found.items():
        print(f"{when:>14} {name}", " ".join(f"{value:.2f}" for value in values))


@pytest.mark.parametrize("model_class", HEADS)
def test_activations_stay_small_at_the_start_and_after_fifty_steps_however_deep_the_model(model_class):
    config = KakehashiConfig.preset("nano", vocab_size=500, num_encoder_layers=12, num_decoder_layers=8)
    model = model_class(config)
    batch = random_batch(model_class, config, rows=4, length=12)
    start = scales(model, batch)
    show("at the start", start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first_loss = last_loss = None
    for _ in range(50):
        last_loss = model.train()(**batch).loss
        first_loss = first_loss or last_loss.item()
        optimizer.zero_grad()
        last_loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert last_loss.item() < first_loss - 1
    after = scales(model, batch)
    show("after 50 steps", after)
    for name, values in after.items():
        assert max(start[name]) < 1.0
        assert max(values) < 4.0
        # Every layer adds about as much; none multiplies.
        assert all(later < 1.5 * earlier for earlier, later in pairwise(values))


@torch.no_grad()
@pytest.mark.parametrize("model_class", [KakehashiForCausalLM, KakehashiForMaskedLM])
def test_all_layers_of_a_stack_write_about_as_much_together_at_any_depth(model_class):
    ends = []
    for layers in (2, 24):
        config = KakehashiConfig.preset("nano", vocab_size=500, num_encoder_layers=layers, num_decoder_layers=layers)
        (values,) = scales(model_class(config), random_batch(model_class, config, rows=4, length=24)).values()
        ends.append(math.sqrt(values[-1] ** 2 - values[0] ** 2))
    # A little more in the deeper one, because attention makes the tokens of a row alike, and what is alike adds up.
    assert ends[0] < ends[1] < 1.75 * ends[0]
