"""What a run starts from: a preset, a trained folder, another family, and what does not fit."""

import copy

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, T5Config

from kakehashi.modeling import KakehashiForConditionalGeneration, KakehashiForMaskedLM
from kakehashi.tokenization import train_tokenizer
from kakehashi.training.arguments import ClassifyArguments, InstructArguments
from kakehashi.training.starting_point import (
    adopt_special_ids,
    has_weights,
    load_config,
    load_tokenizer,
    new_config,
    start_model,
)

OVERRIDES = {"num_encoder_layers": 1, "num_decoder_layers": 1, "hidden_size": 32, "intermediate_size": 64}


def test_a_preset_takes_vocabulary_and_ids_from_the_tokenizer(tiny_tokenizer):
    config = new_config("nano", OVERRIDES, tiny_tokenizer)
    assert config.vocab_size == len(tiny_tokenizer)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.mask_token_id) == (0, 1, 2, 3)
    assert (config.num_encoder_layers, config.num_attention_heads) == (1, 4)


def test_an_override_must_be_a_field(tiny_tokenizer):
    with pytest.raises(ValueError, match="`config_overrides` must hold fields of KakehashiConfig, got 'layers'"):
        new_config("nano", {"layers": 3}, tiny_tokenizer)


def test_an_override_of_a_given_model_must_be_a_field_too(tiny_model_dir, tiny_tokenizer, tmp_path):
    arguments = InstructArguments(model=str(tiny_model_dir), config_overrides={"dropout": 0.2, "num_labels": 5})
    config = load_config(arguments, tiny_tokenizer)
    assert (config.dropout, config.num_labels) == (0.2, 5)
    T5Config(vocab_size=400).save_pretrained(tmp_path / "t5")
    for model, name, message in [
        (tiny_model_dir, "dropuot", "of KakehashiConfig, got 'dropuot'; did you mean `dropout`"),
        (tmp_path / "t5", "dropout_rat", "of T5Config, got 'dropout_rat'; did you mean `dropout_rate`"),
    ]:
        arguments = InstructArguments(model=str(model), config_overrides={name: 0.2})
        with pytest.raises(ValueError, match=f"`config_overrides` must hold fields {message}"):
            load_config(arguments, tiny_tokenizer)


@pytest.mark.parametrize(("settings", "got"), [({}, "neither"), ({"model": "a", "preset": "nano"}, "both")])
def test_a_recipe_gives_either_model_or_preset(tiny_tokenizer, settings, got):
    with pytest.raises(ValueError, match=f"either `model` .* or `preset` .*, got {got}"):
        load_config(InstructArguments(**settings), tiny_tokenizer)


def test_a_trained_folder_brings_its_tokenizer_and_weights(tiny_model_dir, tiny_model, capsys):
    arguments = InstructArguments(model=str(tiny_model_dir))
    tokenizer = load_tokenizer(arguments)
    model = start_model(AutoModelForSeq2SeqLM, load_config(arguments, tokenizer), arguments)
    assert torch.equal(model.get_input_embeddings().weight, tiny_model.get_input_embeddings().weight)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_new_head_is_told_in_one_line(tiny_model_dir, capsys):
    arguments = InstructArguments(model=str(tiny_model_dir))
    config = load_config(arguments, load_tokenizer(arguments))
    config.num_labels = 3
    model = start_model(AutoModelForSequenceClassification, config, arguments)
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert told.endswith("; new, to be trained: score")
    assert model.new_modules == ["score"]


def test_a_folder_with_only_a_configuration_starts_at_random(tmp_path, tiny_tokenizer, capsys):
    config = T5Config(vocab_size=400, d_model=16, d_ff=32, d_kv=8, num_layers=1, num_heads=2)
    config.save_pretrained(tmp_path / "t5")
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    assert not has_weights(str(tmp_path / "t5"))
    arguments = InstructArguments(model=str(tmp_path / "t5"), tokenizer=str(tmp_path / "tokenizer"))
    tokenizer = load_tokenizer(arguments)
    model = start_model(AutoModelForSeq2SeqLM, load_config(arguments, tokenizer), arguments)
    adopt_special_ids(model, tokenizer)
    assert "new T5ForConditionalGeneration (config.json of" in capsys.readouterr().err
    assert model.generation_config.decoder_start_token_id == tokenizer.bos_token_id
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_special_ids_that_a_tokenizer_lacks_stay_those_of_the_model(tiny_tokenizer):
    shape = {"vocab_size": 400, "d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 1, "num_heads": 2}
    model = AutoModelForSeq2SeqLM.from_config(T5Config(**shape, decoder_start_token_id=7, eos_token_id=9))
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.bos_token = None
    adopt_special_ids(model, tokenizer)
    for place in (model.config, model.generation_config):
        assert (place.decoder_start_token_id, place.eos_token_id) == (7, tokenizer.eos_token_id)


def test_a_tokenizer_that_cannot_pad_is_refused(tiny_tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    for keys in ({"tokenizer": str(tmp_path)}, {"model": str(tmp_path)}):
        with pytest.raises(
            ValueError, match=f"`tokenizer` must have a padding token, but that of {tmp_path} has none"
        ):
            load_tokenizer(InstructArguments(**keys))


def test_model_and_tokenizer_of_different_vocabularies_are_refused(tiny_model_dir, tiny_sentences, tmp_path):
    for size, message in [(400, "got 400 entries in the tokenizer and 384 in the model"), (384, "another one than")]:
        other = train_tokenizer(
            [sentence[::-1] for sentence in tiny_sentences] * 4,
            vocab_size=size,
            num_sentinels=10,
            allow_smaller=True,
            show_progress=False,
        )
        other.save_pretrained(tmp_path / "other")
        arguments = InstructArguments(model=str(tiny_model_dir), tokenizer=str(tmp_path / "other"))
        with pytest.raises(ValueError, match=f"must have the same vocabulary, .*{message}"):
            load_config(arguments, load_tokenizer(arguments))


def test_a_folder_that_is_none_is_named(tmp_path, tiny_tokenizer):
    with pytest.raises(ValueError, match=r"`tokenizer` must be a folder with tokenizer\.json"):
        load_tokenizer(InstructArguments(tokenizer=str(tmp_path)))
    with pytest.raises(ValueError, match=r"`tokenizer` must be a folder .*, got 'runs/tokenizer'"):
        load_tokenizer(InstructArguments(tokenizer="runs/tokenizer"))
    for name in ("名前/モデル", "my model", "~/model"):
        with pytest.raises(ValueError, match=f"`model` must be a folder .*, got '{name}'"):
            load_tokenizer(InstructArguments(model=name))
    with pytest.raises(ValueError, match="`tokenizer` must name a tokenizer folder where `model` is not given"):
        load_tokenizer(InstructArguments(preset="nano"))
    with pytest.raises(ValueError, match=r"`model` must be a folder with config\.json"):
        load_config(InstructArguments(model=str(tmp_path / "none")), tiny_tokenizer)


def test_a_name_that_the_hub_does_not_give_is_named(tiny_tokenizer):
    with pytest.raises(OSError, match="there is no folder nobody/none, and the Hub gave nothing of that name"):
        load_tokenizer(InstructArguments(tokenizer="nobody/none"))
    with pytest.raises(OSError, match="there is no folder nobody/none, and the Hub gave nothing of that name"):
        load_config(InstructArguments(model="nobody/none"), tiny_tokenizer)


def test_weights_count_however_they_are_stored(tmp_path, tiny_model):
    assert isinstance(tiny_model, KakehashiForConditionalGeneration)
    tiny_model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert has_weights(str(tmp_path / "sharded"))
    assert has_weights("owner/name")


@pytest.mark.parametrize("model_class", [KakehashiForConditionalGeneration, KakehashiForMaskedLM])
def test_a_classifier_takes_the_whole_encoder_and_nothing_else_of_what_was_pretrained(
    build_tiny_model, tiny_tokenizer, tmp_path, capsys, model_class
):
    shape = {"num_decoder_layers": 0} if model_class is KakehashiForMaskedLM else {}
    pretrained = build_tiny_model(model_class, **shape)
    pretrained.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    arguments = ClassifyArguments(model=str(tmp_path), config_overrides={"dropout": 0.1})
    config = load_config(arguments, load_tokenizer(arguments))
    config.num_labels = 3
    model = start_model(AutoModelForSequenceClassification, config, arguments)
    assert capsys.readouterr().err.strip().endswith("; new, to be trained: score")
    weights, encoder = model.state_dict(), pretrained.model.encoder.state_dict()
    assert encoder and all(torch.equal(weights[f"model.encoder.{name}"], each) for name, each in encoder.items())
    assert not [name for name in weights if "decoder" in name or "lm_head" in name]
    assert model.dropout.p == 0.1
