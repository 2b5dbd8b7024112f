"""The stacks: who sees whom, padding, caches, what is returned beside the states, initialisation."""

import pytest
import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache, StaticCache

from kakehashi.modeling import (
    KakehashiConfig,
    KakehashiEncoderModel,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiModel,
)
from kakehashi.modeling.stacks_kakehashi import KakehashiDecoder

SOURCE = torch.tensor([[10, 11, 12, 13, 14, 2]])
TARGET = torch.tensor([[1, 20, 21, 22, 23]])


def pad(rows, side):
    """Pads lists of ids on one side; returns ids and attention mask."""
    length = max(map(len, rows))
    fillings = [[0] * (length - len(row)) for row in rows]
    ids = [fill + row if side == "left" else row + fill for row, fill in zip(rows, fillings, strict=True)]
    mask = [
        [0] * len(fill) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(fill)
        for row, fill in zip(rows, fillings, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(mask)


@torch.no_grad()
def test_the_decoder_never_sees_later_positions(tiny_model):
    changed = TARGET.clone()
    changed[0, 3] = 99
    logits = tiny_model(SOURCE, decoder_input_ids=TARGET).logits
    changed_logits = tiny_model(SOURCE, decoder_input_ids=changed).logits
    assert torch.equal(logits[:, :3], changed_logits[:, :3])
    assert not torch.allclose(logits[:, 3:], changed_logits[:, 3:])


@torch.no_grad()
def test_the_decoder_alone_never_sees_later_positions(build_tiny_model):
    model = build_tiny_model(KakehashiForCausalLM, num_decoder_layers=2)
    changed = TARGET.clone()
    changed[0, 3] = 99
    logits, changed_logits = model(TARGET).logits, model(changed).logits
    assert torch.equal(logits[:, :3], changed_logits[:, :3])
    assert not torch.allclose(logits[:, 3:], changed_logits[:, 3:])


@torch.no_grad()
def test_every_encoder_position_sees_every_other(build_tiny_model):
    model = build_tiny_model(KakehashiEncoderModel)
    states = model(SOURCE).last_hidden_state
    for position in range(SOURCE.shape[1]):
        changed = SOURCE.clone()
        changed[0, position] = 99
        moved = (model(changed).last_hidden_state - states).abs().amax(-1)
        assert (moved > 1e-4).all()


@torch.no_grad()
def test_every_decoder_position_sees_every_source_token_but_padding(tiny_model):
    source = torch.cat((SOURCE, torch.zeros(1, 2, dtype=torch.long)), dim=1)
    mask = (source != 0).long()
    logits = tiny_model(source, mask, decoder_input_ids=TARGET).logits
    for position in range(source.shape[1]):
        changed = source.clone()
        changed[0, position] = 99
        moved = (tiny_model(changed, mask, decoder_input_ids=TARGET).logits - logits).abs().amax(-1)
        assert (moved > 1e-5).all() if mask[0, position] else (moved == 0).all()


@torch.no_grad()
def test_word_order_matters_through_rotary_positions(build_tiny_model):
    model = build_tiny_model(KakehashiEncoderModel)
    states = model(SOURCE).last_hidden_state
    turned = model(SOURCE.flip(1)).last_hidden_state.flip(1)
    assert not torch.allclose(states, turned, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("start", [1, 50])
def test_shifting_all_positions_changes_nothing(tiny_model, start):
    positions = torch.arange(SOURCE.shape[1])[None] + start
    decoder_positions = torch.arange(TARGET.shape[1])[None] + start
    expected = tiny_model(SOURCE, decoder_input_ids=TARGET).logits
    shifted = tiny_model(
        SOURCE, position_ids=positions, decoder_position_ids=decoder_positions, decoder_input_ids=TARGET
    ).logits
    torch.testing.assert_close(shifted, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_encoder_equals_an_unpadded_one(build_tiny_model, side, implementation):
    model = build_tiny_model(KakehashiEncoderModel)
    model.set_attn_implementation(implementation)
    rows = [[10, 11, 12, 13, 14, 2], [15, 16, 2], [17, 2]]
    ids, mask = pad(rows, side)
    states = model(ids, mask).last_hidden_state
    for row, state, kept in zip(rows, states, mask.bool(), strict=True):
        torch.testing.assert_close(state[kept], model(torch.tensor([row])).last_hidden_state[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("target_side", ["left", "right"])
def test_a_padded_encoder_decoder_equals_an_unpadded_one(tiny_model, side, target_side, implementation):
    tiny_model.set_attn_implementation(implementation)
    sources = [[10, 11, 12, 13, 14, 2], [15, 16, 2], [17, 2]]
    targets = [[1, 20, 21], [1, 22, 23, 24, 25], [1]]
    (ids, mask), (decoder_ids, decoder_mask) = pad(sources, side), pad(targets, target_side)
    logits = tiny_model(ids, mask, decoder_input_ids=decoder_ids, decoder_attention_mask=decoder_mask).logits
    for source, target, row, kept in zip(sources, targets, logits, decoder_mask.bool(), strict=True):
        expected = tiny_model(torch.tensor([source]), decoder_input_ids=torch.tensor([target])).logits[0]
        torch.testing.assert_close(row[kept], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("with_positions", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_decoder_equals_an_unpadded_one(build_tiny_model, side, with_positions):
    model = build_tiny_model(KakehashiForCausalLM, num_decoder_layers=2)
    rows = [[1, 10, 11, 12, 13], [1, 14, 15], [1]]
    ids, mask = pad(rows, side)
    positions = (mask.cumsum(1) - 1).clamp(min=0) if with_positions else None
    logits = model(ids, mask, position_ids=positions).logits
    for row, logit, kept in zip(rows, logits, mask.bool(), strict=True):
        torch.testing.assert_close(logit[kept], model(torch.tensor([row])).logits[0], rtol=1e-4, atol=1e-5)


def build_cache(kind, config, source_length):
    """A cache of the given kind for an encoder-decoder, or for the decoder alone."""
    if kind == "static":
        lengths = (16, source_length) if config.is_encoder_decoder else (16,)
        caches = [StaticCache(config=config, max_cache_len=length) for length in lengths]
    else:
        caches = [DynamicCache(config=config) for _ in range(2 if config.is_encoder_decoder else 1)]
    return EncoderDecoderCache(*caches) if config.is_encoder_decoder else caches[0]


@torch.no_grad()
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_decoding_step_by_step_with_a_cache_equals_one_pass(build_tiny_model, kind, step):
    model = build_tiny_model(KakehashiForConditionalGeneration, num_decoder_layers=3)
    rows = [[10, 11, 12, 13, 14, 2], [15, 16, 2]]
    ids, mask = pad(rows, "right")
    target = torch.randint(4, 200, (2, 6))
    expected = model(ids, mask, decoder_input_ids=target).logits
    encoder_outputs = model.get_encoder()(ids, mask)
    cache = build_cache(kind, model.config, ids.shape[1])
    for start in range(0, 6, step):
        outputs = model(
            attention_mask=mask,
            encoder_outputs=encoder_outputs,
            decoder_input_ids=target[:, start : start + step],
            past_key_values=cache,
            use_cache=True,
        )
        torch.testing.assert_close(outputs.logits, expected[:, start : start + step], rtol=1e-4, atol=1e-5)
    assert cache.get_seq_length() == 6


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_decoder_alone_with_a_cache_equals_one_pass(build_tiny_model, kind):
    model = build_tiny_model(KakehashiForCausalLM, num_decoder_layers=3)
    ids = torch.randint(4, 200, (2, 6))
    expected = model(ids).logits
    cache = build_cache(kind, model.config, 0)
    logits = [model(ids[:, i : i + 1], past_key_values=cache, use_cache=True).logits for i in range(6)]
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_keys_and_values_of_the_source_are_computed_once(tiny_model, monkeypatch):
    cross_attention = tiny_model.get_decoder().layers[0].cross_attn
    calls, project = [], cross_attention.project_keys_values
    monkeypatch.setattr(cross_attention, "project_keys_values", lambda states: calls.append(1) or project(states))
    tiny_model.generate(SOURCE, max_new_tokens=5, min_new_tokens=5)
    assert len(calls) == 1


@torch.no_grad()
def test_a_cache_is_returned_when_asked_for_and_never_in_training(tiny_model):
    cache = tiny_model(SOURCE, decoder_input_ids=TARGET).past_key_values
    assert isinstance(cache, EncoderDecoderCache)
    assert cache.get_seq_length() == TARGET.shape[1]
    assert tiny_model(SOURCE, decoder_input_ids=TARGET, use_cache=False).past_key_values is None
    assert tiny_model.train()(SOURCE, decoder_input_ids=TARGET).past_key_values is None


@torch.no_grad()
def test_attentions_and_states_of_every_layer_are_returned(build_tiny_model):
    model = build_tiny_model(KakehashiModel, num_encoder_layers=3, num_decoder_layers=2)
    model.set_attn_implementation("eager")
    outputs = model(
        SOURCE, decoder_input_ids=TARGET, output_attentions=True, output_hidden_states=True, use_cache=False
    )
    heads, source, target = model.config.num_attention_heads, SOURCE.shape[1], TARGET.shape[1]
    attentions = {
        "encoder_attentions": (3, (1, heads, source, source)),
        "decoder_attentions": (2, (1, heads, target, target)),
        "cross_attentions": (2, (1, heads, target, source)),
    }
    for name, (count, shape) in attentions.items():
        weights = getattr(outputs, name)
        assert [tuple(layer.shape) for layer in weights] == [shape] * count
        for layer in weights:
            torch.testing.assert_close(layer.sum(-1), torch.ones(shape[:-1]))
    assert torch.equal(outputs.decoder_attentions[0].triu(1), torch.zeros(1, heads, target, target))
    for name, count, length in (("encoder", 3, source), ("decoder", 2, target)):
        states = getattr(outputs, f"{name}_hidden_states")
        assert [tuple(state.shape) for state in states] == [(1, length, model.config.hidden_size)] * (count + 1)
    assert torch.equal(outputs.encoder_hidden_states[-1], outputs.encoder_last_hidden_state)
    assert torch.equal(outputs.decoder_hidden_states[-1], outputs.last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("model_class", [KakehashiEncoderModel, KakehashiForCausalLM])
def test_one_stack_alone_returns_its_attentions_and_states(build_tiny_model, model_class):
    model = build_tiny_model(model_class, num_encoder_layers=3, num_decoder_layers=3)
    model.set_attn_implementation("eager")
    outputs = model(SOURCE, output_attentions=True, output_hidden_states=True)
    assert (len(outputs.attentions), len(outputs.hidden_states)) == (3, 4)
    for layer in outputs.attentions:
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:-1]))
    assert outputs.get("cross_attentions") is None


@torch.no_grad()
def test_padding_gets_no_attention(tiny_model):
    tiny_model.set_attn_implementation("eager")
    ids, mask = pad([[10, 11, 12, 2], [13, 2]], "right")
    outputs = tiny_model(ids, mask, decoder_input_ids=torch.tensor([[1, 5], [1, 6]]), output_attentions=True)
    for weights in (*outputs.encoder_attentions, *outputs.cross_attentions):
        assert (weights[1, :, :, 2:] == 0).all()


@torch.no_grad()
def test_an_embedding_is_a_row_of_its_weight_matrix(tiny_model):
    encoder = tiny_model.get_encoder()
    ids = torch.tensor([[5, 9, 5]])
    rows = tiny_model.get_input_embeddings().weight[[5, 9, 5]][None]
    assert torch.equal(encoder.embed(ids, None, torch.arange(3)[None]), rows * encoder.embed_scale)


def test_embeddings_given_in_place_of_ids_give_the_same_logits(tiny_model):
    embed = tiny_model.get_input_embeddings()
    expected = tiny_model(SOURCE, decoder_input_ids=TARGET).logits
    logits = tiny_model(inputs_embeds=embed(SOURCE), decoder_inputs_embeds=embed(TARGET)).logits
    assert torch.equal(logits, expected)


@pytest.mark.parametrize(("given", "word"), [({}, "neither"), ({"input_ids": SOURCE, "inputs_embeds": None}, None)])
def test_the_encoder_wants_ids_or_embeddings(build_tiny_model, given, word):
    model = build_tiny_model(KakehashiEncoderModel)
    if word is None:
        given, word = {"input_ids": SOURCE, "inputs_embeds": model.get_input_embeddings()(SOURCE)}, "both"
    with pytest.raises(ValueError, match=f"exactly one of `input_ids` and `inputs_embeds`, got {word}"):
        model(**given)


def test_the_decoder_of_an_encoder_decoder_wants_the_source(build_tiny_model):
    decoder = build_tiny_model(KakehashiModel).get_decoder()
    assert isinstance(decoder, KakehashiDecoder)
    with pytest.raises(ValueError, match="`encoder_hidden_states` must be given"):
        decoder(TARGET)


@torch.no_grad()
def test_depth_does_not_blow_up_the_residual_stream():
    torch.manual_seed(0)
    sizes = {"vocab_size": 500, "num_encoder_layers": 32, "num_decoder_layers": 24}
    model = KakehashiModel(KakehashiConfig.preset("nano", **sizes)).eval()
    ids = torch.randint(4, 500, (2, 12))
    outputs = model(ids, decoder_input_ids=ids, output_hidden_states=True)
    # The last entry is after the final norm.
    for states in (outputs.encoder_hidden_states[:-1], outputs.decoder_hidden_states[:-1]):
        scales = [state.square().mean().sqrt().item() for state in states]
        print([round(scale, 2) for scale in scales])
        assert max(scales) < 1.0
