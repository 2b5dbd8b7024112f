"""The five kinds of positions: what each promises, and that every one trains, generates, saves and loads."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from kakehashi.modeling import (
    KakehashiConfig,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
)
from kakehashi.modeling.positions_kakehashi import (
    KakehashiRelativeBias,
    KakehashiRotaryEmbedding,
    KakehashiSinusoidalPositions,
    positions_of_tokens,
    rotate,
)

KINDS = ["rope", "relative_bias", "learned", "sinusoidal", "none"]


@pytest.fixture
def config():
    return KakehashiConfig(hidden_size=24, num_attention_heads=6, num_key_value_heads=2, head_dim=8)


def test_the_score_of_two_rotated_vectors_depends_on_their_distance_alone(config):
    rotary = KakehashiRotaryEmbedding(config)
    query, key = torch.randn(2, 1, 1, 1, config.head_dim)

    def score(query_position, key_position):
        turned = [
            rotate(vector, *rotary(vector, torch.tensor([[position]])))
            for vector, position in ((query, query_position), (key, key_position))
        ]
        return (turned[0] * turned[1]).sum()

    for distance in (0, 1, 7):
        scores = [score(start + distance, start) for start in (0, 3, 500)]
        torch.testing.assert_close(torch.stack(scores), scores[0].expand(3), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(score(1, 0), score(0, 1))


def test_rotation_keeps_the_length_of_a_vector_and_leaves_position_zero_alone(config):
    states = torch.randn(2, 9, 6, config.head_dim)
    turned = rotate(states, *KakehashiRotaryEmbedding(config)(states, torch.arange(9)[None]))
    torch.testing.assert_close(turned.norm(dim=-1), states.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], states[:, 0])


def test_rotations_are_those_of_llama(config):
    llama = LlamaConfig(head_dim=config.head_dim, rope_parameters=config.rope_parameters)
    positions = torch.tensor([[0, 1, 2, 900], [0, 0, 3, 4]])
    queries, keys = torch.randn(2, 4, 6, config.head_dim), torch.randn(2, 4, 2, config.head_dim)
    tables = LlamaRotaryEmbedding(llama)(queries, positions)
    expected = apply_rotary_pos_emb(queries, keys, *tables, unsqueeze_dim=2)
    rotations = KakehashiRotaryEmbedding(config)(queries, positions)
    for states, expected_states in zip((queries, keys), expected, strict=True):
        torch.testing.assert_close(rotate(states, *rotations), expected_states)


def test_linear_rope_scaling_stretches_positions():
    plain = KakehashiRotaryEmbedding(KakehashiConfig())
    scaling = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
    stretched = KakehashiRotaryEmbedding(KakehashiConfig(rope_parameters=scaling))
    positions = torch.arange(12)[None]
    for expected, got in zip(plain(torch.ones(1), positions), stretched(torch.ones(1), positions * 4), strict=True):
        torch.testing.assert_close(got, expected)


ROPE_TYPES = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
    "longrope": {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 16},
    "llama3": {
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
}


@pytest.mark.parametrize("rope_type", ROPE_TYPES)
def test_every_type_of_rotary_scaling_trains_generates_saves_and_loads(build_tiny_model, rope_type, tmp_path):
    parameters = {"rope_type": rope_type, "rope_theta": 10_000.0, **ROPE_TYPES[rope_type]}
    # The dynamic type changes nothing before the model's own length is passed.
    longest = 16 if rope_type == "dynamic" else 64
    model = build_tiny_model(
        KakehashiForConditionalGeneration, rope_parameters=parameters, max_position_embeddings=longest
    )
    ids = torch.randint(4, 100, (2, 24))
    model(input_ids=ids, labels=ids).loss.backward()
    model.save_pretrained(tmp_path)
    loaded = KakehashiForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(input_ids=ids, labels=ids).loss, model(input_ids=ids, labels=ids).loss)
    arguments = {"do_sample": False, "max_new_tokens": 20, "min_new_tokens": 20}
    assert torch.equal(loaded.generate(ids, **arguments), model.generate(ids, **arguments))
    plain = build_tiny_model(KakehashiForConditionalGeneration)
    plain.load_state_dict(model.state_dict())
    assert not torch.allclose(plain(input_ids=ids, labels=ids).logits, model(input_ids=ids, labels=ids).logits)


def test_casting_a_model_to_bfloat16_keeps_the_angles_exact(config):
    rotary = KakehashiRotaryEmbedding(config)
    positions = torch.tensor([[0, 1, 100, 1999]])
    expected = [table.bfloat16() for table in rotary(torch.ones(1), positions)]
    for table, wanted in zip(rotary.to(torch.bfloat16)(torch.ones(1).bfloat16(), positions), expected, strict=True):
        assert torch.equal(table, wanted)


def test_relative_buckets_are_exact_near_by_and_widen_far_away(config):
    config.relative_attention_num_buckets, config.relative_attention_max_distance = 8, 16
    causal = KakehashiRelativeBias(config, is_causal=True)
    distances = torch.tensor([5, 0, -1, -2, -3, -4, -5, -6, -7, -8, -11, -12, -16, -100])
    assert causal.bucket(distances).tolist() == [0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7]
    both = KakehashiRelativeBias(config, is_causal=False)
    before, after = both.bucket(-distances.abs()), both.bucket(distances.abs())
    assert before.max() < 4
    assert torch.equal(after[2:], before[2:] + 4)


def test_relative_buckets_are_those_of_t5():
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = torch.arange(-300, 301)
    for buckets, farthest in ((32, 128), (8, 20)):
        config = KakehashiConfig(relative_attention_num_buckets=buckets, relative_attention_max_distance=farthest)
        for is_causal in (True, False):
            expected = T5Attention._relative_position_bucket(distances, not is_causal, buckets, farthest)
            assert torch.equal(KakehashiRelativeBias(config, is_causal=is_causal).bucket(distances), expected)


def test_the_bias_of_two_places_depends_on_their_distance_alone(config):
    bias = KakehashiRelativeBias(config, is_causal=False)
    here, shifted = torch.arange(6), torch.arange(6) + 40
    assert torch.equal(bias(here, here), bias(shifted, shifted))
    assert bias(here, here).shape == (1, 6, 6, 6)


def test_sinusoids_are_waves_of_growing_length(config):
    vectors = KakehashiSinusoidalPositions(config)(torch.arange(50)[None])[0]
    assert vectors.shape == (50, 24)
    torch.testing.assert_close(vectors[:, 0], torch.arange(50.0).sin())
    torch.testing.assert_close(vectors[:, 12], torch.arange(50.0).cos())
    torch.testing.assert_close(vectors.square().sum(dim=-1), torch.full((50,), 12.0))


def test_padding_before_or_after_a_row_does_not_move_its_positions():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert positions_of_tokens(mask, 5).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]]
    assert positions_of_tokens(mask, 1).tolist() == [[2], [2]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_position_trains_and_every_parameter_receives_a_gradient(build_tiny_model, kind):
    model = build_tiny_model(KakehashiForConditionalGeneration, position_embedding_type=kind).train()
    ids = torch.randint(4, 100, (2, 7))
    model(input_ids=ids, labels=ids.flip(1)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_either_side_changes_nothing(build_tiny_model, kind, side, implementation):
    model = build_tiny_model(KakehashiForMaskedLM, position_embedding_type=kind)
    model.set_attn_implementation(implementation)
    ids = torch.randint(4, 100, (1, 5))
    fill = (2, 0) if side == "left" else (0, 2)
    padded, mask = torch.nn.functional.pad(ids, fill), torch.nn.functional.pad(torch.ones_like(ids), fill)
    kept = slice(2, None) if side == "left" else slice(None, 5)
    torch.testing.assert_close(model(padded, mask).logits[:, kept], model(ids).logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM])
@pytest.mark.parametrize("kind", KINDS)
def test_generation_with_a_cache_equals_generation_without(build_tiny_model, kind, model_class):
    model = build_tiny_model(model_class, position_embedding_type=kind)
    ids = torch.tensor([[0, 0, 7, 8, 9], [5, 6, 7, 8, 9]])
    mask = (ids != 0).long()
    arguments = {"attention_mask": mask, "do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}
    expected = model.generate(ids, **arguments, use_cache=False)
    for cache in (None, "static"):
        assert torch.equal(model.generate(ids, **arguments, cache_implementation=cache), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_gives_the_same_logits(build_tiny_model, kind, tmp_path):
    model = build_tiny_model(KakehashiForConditionalGeneration, position_embedding_type=kind)
    model.save_pretrained(tmp_path)
    loaded = KakehashiForConditionalGeneration.from_pretrained(tmp_path)
    ids = torch.randint(4, 100, (2, 7))
    assert loaded.config.position_embedding_type == kind
    assert torch.equal(
        loaded(input_ids=ids, decoder_input_ids=ids).logits, model(input_ids=ids, decoder_input_ids=ids).logits
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_source_matters_unless_there_are_no_positions(build_tiny_model, kind):
    model = build_tiny_model(KakehashiForMaskedLM, position_embedding_type=kind)
    ids = torch.tensor([[5, 6, 7, 8]])
    same = torch.allclose(model(ids).logits, model(ids.flip(1)).logits.flip(1), atol=1e-5)
    assert same == (kind == "none")


def test_a_position_past_the_learned_table_is_named(build_tiny_model):
    model = build_tiny_model(KakehashiForMaskedLM, position_embedding_type="learned", max_position_embeddings=6)
    assert model(torch.full((1, 6), 5)).logits.isfinite().all()
    with pytest.raises(
        ValueError, match=r"`position_ids` must be .* `max_position_embeddings` - 1 = 5, got 6 at row 0"
    ):
        model(torch.full((1, 7), 5))


@pytest.mark.parametrize("bad", [-100, 10_000])
def test_an_id_outside_the_vocabulary_is_named_with_its_place(build_tiny_model, bad):
    model = build_tiny_model(KakehashiForMaskedLM)
    ids = torch.tensor([[5, 6, 7], [5, bad, 7]])
    with pytest.raises(ValueError, match=rf"`input_ids` .* got {bad} at row 1, position 1"):
        model(ids)


def test_relative_biases_refuse_an_attention_implementation_that_cannot_add_them(build_tiny_model):
    model = build_tiny_model(KakehashiForMaskedLM, position_embedding_type="relative_bias")
    model.set_attn_implementation("varlen")
    with pytest.raises(ValueError, match=r"must be 'eager' or 'sdpa' with relative biases.*got 'varlen'"):
        model(torch.tensor([[5, 6]]))
