"""The configuration: presets and their sizes, the three shapes, and one readable error for each bad field."""

import json
from itertools import permutations

import pytest
import torch

from kakehashi.modeling import KakehashiConfig, KakehashiForConditionalGeneration
from kakehashi.modeling.configuration_kakehashi import AUTO_MAP, PIPELINES, PRESETS

# Preset → parameters of the encoder-decoder at the default vocabulary of 32,000, and those outside the embedding.
PRESET_PARAMETERS = {
    "nano": (5_302_976, 1_206_976),
    "mini": (14_490_240, 6_298_240),
    "small": (47_462_784, 31_078_784),
    "base": (156_737_792, 132_161_792),
    "large": (476_937_344, 444_169_344),
}

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


def count_parameters(config):
    with torch.device("meta"):
        model = KakehashiForConditionalGeneration(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    return total, total - model.get_input_embeddings().weight.numel()


def test_presets_have_the_parameter_counts_that_the_table_states():
    counted = {name: count_parameters(KakehashiConfig.preset(name)) for name in PRESETS}
    for name, (total, without_embedding) in counted.items():
        print(f"| {name} | {total / 1e6:.1f} M | {without_embedding / 1e6:.1f} M |")
    assert counted == PRESET_PARAMETERS


def test_every_preset_has_a_deep_encoder_and_a_shallow_decoder():
    for name in PRESETS:
        config = KakehashiConfig.preset(name)
        assert config.num_encoder_layers >= 2 * config.num_decoder_layers
        assert config.hidden_size == config.num_attention_heads * config.head_dim


def test_a_preset_takes_overrides():
    config = KakehashiConfig.preset("nano", vocab_size=1000, num_decoder_layers=1)
    assert (config.vocab_size, config.num_decoder_layers, config.hidden_size) == (1000, 1, 128)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match=r"`preset` must be one of nano, mini, small, base, large, got 'tiny'"):
        KakehashiConfig.preset("tiny")


def test_heads_and_widths_left_out_are_derived():
    config = KakehashiConfig(hidden_size=96, num_attention_heads=6, num_key_value_heads=None, head_dim=None)
    assert (config.num_key_value_heads, config.head_dim) == (6, 16)


def test_caches_are_sized_by_the_decoder():
    config = KakehashiConfig(num_encoder_layers=8, num_decoder_layers=2)
    assert config.num_hidden_layers == 2
    assert config.get_text_config(decoder=True).num_hidden_layers == 2


@pytest.mark.parametrize("shape", ["encoder-decoder", "encoder", "decoder"])
def test_the_configuration_of_either_end_is_the_configuration_itself(shape):
    config = KakehashiConfig().with_shape(shape)
    for end in ({}, {"decoder": True}, {"encoder": True}):
        assert config.get_text_config(**end) is config


def test_a_shape_is_read_from_and_written_to_the_two_flags():
    config = KakehashiConfig(**TINY)
    assert config.shape == "encoder-decoder"
    assert config.with_shape("encoder-decoder") is config
    for shape in ("encoder", "decoder"):
        other = config.with_shape(shape)
        assert other.shape == shape
        assert other.with_shape("encoder-decoder").shape == "encoder-decoder"
    assert config.shape == "encoder-decoder", "the original must not change"


def test_a_saved_configuration_comes_back_the_same(tmp_path):
    rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    config = KakehashiConfig(**TINY, rope_parameters=rope_parameters, dropout=0.1, id2label={0: "no", 1: "yes"})
    config.save_pretrained(tmp_path)
    loaded = KakehashiConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.rope_parameters["rope_theta"] == 500.0


def test_every_configuration_carries_the_complete_map_for_auto_classes(tmp_path):
    KakehashiConfig(**TINY).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert written["auto_map"] == AUTO_MAP
    assert written["model_type"] == "kakehashi"


INVALID = [
    ({"num_key_value_heads": 3}, r"`num_attention_heads` must be a multiple of `num_key_value_heads`, got 4 and 3"),
    ({"num_key_value_heads": 8}, r"`num_attention_heads` must be a multiple of `num_key_value_heads`, got 4 and 8"),
    ({"head_dim": 7}, r"`head_dim` must be even because rotary positions turn pairs, got 7"),
    ({"num_encoder_layers": -1}, r"`num_encoder_layers` must not be negative, got -1"),
    ({"num_decoder_layers": -2}, r"`num_decoder_layers` must not be negative, got -2"),
    ({"pad_token_id": 32_000}, r"`pad_token_id` must be between 0 and `vocab_size` - 1, got 32000"),
    ({"bos_token_id": -1}, r"`bos_token_id` must be between 0 and `vocab_size` - 1, got -1"),
    ({"eos_token_id": 40_000}, r"`eos_token_id` must be between 0 and `vocab_size` - 1, got 40000"),
    ({"eos_token_id": [2, -5]}, r"`eos_token_id` must be between 0 and `vocab_size` - 1, got -5"),
    ({"decoder_start_token_id": 50_000}, r"`decoder_start_token_id` must be between 0 and .* got 50000"),
    ({"vocab_size": 3}, r"`mask_token_id` must be between 0 and `vocab_size` - 1, got 3"),
    ({"dropout": 1.5}, r"`dropout` must be at least 0 and less than 1, got 1.5"),
    ({"attention_dropout": -0.1}, r"`attention_dropout` must be at least 0 and less than 1, got -0.1"),
    ({"classifier_dropout": 1}, r"`classifier_dropout` must be at least 0 and less than 1, got 1"),
    ({"rope_parameters": {"rope_type": "spiral"}}, r"`rope_parameters\['rope_type'\]` must be one of .* got 'spiral'"),
    (
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        r"`rope_parameters\['partial_rotary_factor'\]` must be 1 .* got 0.5",
    ),
    ({"rms_norm_eps": -1e-6}, r"`rms_norm_eps` must not be negative, got -1e-06"),
]
SIZES = ["vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"]
INVALID += [({name: 0}, rf"`{name}` must be at least 1, got 0") for name in [*SIZES, "max_position_embeddings"]]


# huggingface_hub wraps the ValueError in an error of its own, which is no ValueError; the message stays.
@pytest.mark.parametrize(("fields", "message"), INVALID, ids=[str(fields) for fields, _ in INVALID])
def test_an_invalid_configuration_names_the_field_and_its_value(fields, message):
    with pytest.raises(Exception, match=message):
        KakehashiConfig(**{**TINY, **fields})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", "wide"),
        ("hidden_size", 3.5),
        ("rms_norm_eps", "1e-6"),
        ("use_cache", "maybe"),
        ("dropout", "0"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(name, value):
    with pytest.raises(Exception, match=rf"'{name}'(.|\n)*{value}"):
        KakehashiConfig(**{name: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_key_value_heads": 3}, r"must be a multiple of `num_key_value_heads`, got 4 and 3"),
        ({"head_dim": 5}, r"`head_dim` must be even"),
        ({"mask_token_id": 99_999}, r"`mask_token_id` must be between 0 and `vocab_size` - 1, got 99999"),
    ],
)
def test_an_override_while_loading_is_checked_as_well(tiny_model_dir, fields, message):
    with pytest.raises(ValueError, match=message):
        KakehashiForConditionalGeneration.from_pretrained(tiny_model_dir, **fields)


def test_a_folder_names_the_pipelines_of_a_model_that_writes_and_of_no_other(tmp_path):
    config = KakehashiConfig(task_specific_params={"translation": {"fr": "{text}", "ja": "{text}", "en": "{text}"}})
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text("utf-8"))["custom_pipelines"]
    pairs = {f"translation_{one}_to_{other}" for one, other in permutations(("en", "fr", "ja"), 2)}
    assert set(written) == {*PIPELINES, *pairs}
    assert all(info["impl"].startswith("pipelines_kakehashi.Kakehashi") for info in written.values())
    # Where kakehashi is installed they are registered, and nobody is asked for leave to run the folder's code.
    assert KakehashiConfig.from_pretrained(tmp_path).custom_pipelines == {}
    config.with_shape("encoder").save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text("utf-8"))


def test_the_list_of_pipelines_follows_from_the_model_whatever_a_config_says():
    config = KakehashiConfig(custom_pipelines={"translation": {"impl": "elsewhere.Pipeline"}})
    assert config.to_dict()["custom_pipelines"]["translation"]["impl"].startswith("pipelines_kakehashi.")
