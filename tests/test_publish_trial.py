"""A folder is tried in a process without kakehashi before anybody else gets it."""

import json

import pytest
import torch

from kakehashi.modeling import KakehashiEncoderModel, KakehashiForConditionalGeneration
from kakehashi.modeling.configuration_kakehashi import AUTO_MAP
from kakehashi.training.publish.trial import auto_class_of, compare_as_stranger, fixed_inputs


def test_a_whole_folder_passes_and_one_with_another_weight_does_not(tiny_model, tiny_model_dir):
    pipelines = json.loads((tiny_model_dir / "config.json").read_text("utf-8"))["custom_pipelines"]
    found = compare_as_stranger(tiny_model, tiny_model_dir)
    auto_classes = {name: home.partition(".")[2] for name, home in AUTO_MAP.items()}
    assert found == {**auto_classes, **{task: each["impl"].partition(".")[2] for task, each in pipelines.items()}}
    with torch.no_grad():
        tiny_model.get_encoder().layers[0].mlp.up_proj.weight.mul_(1.5)
    with pytest.raises(ValueError, match=r"the folder answers otherwise than the run it was made from, by up to \d"):
        compare_as_stranger(tiny_model, tiny_model_dir)


def test_a_folder_without_a_file_of_its_code_does_not_pass(tiny_model, tiny_model_dir):
    (tiny_model_dir / "stacks_kakehashi.py").unlink()
    with pytest.raises(ValueError, match=r"does not load where kakehashi is not installed: .*stacks_kakehashi"):
        compare_as_stranger(tiny_model, tiny_model_dir)


def test_a_folder_whose_map_lacks_a_head_does_not_pass(tiny_model, tiny_model_dir, monkeypatch):
    config = json.loads((tiny_model_dir / "config.json").read_text("utf-8"))
    del config["auto_map"]["AutoModelForMaskedLM"]
    (tiny_model_dir / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ValueError, match=r"the folder has no class for AutoModelForMaskedLM"):
        compare_as_stranger(tiny_model, tiny_model_dir)


def test_the_inputs_are_the_same_each_time_and_fit_the_model(tiny_model, build_tiny_model):
    inputs = fixed_inputs(tiny_model)
    assert inputs == fixed_inputs(tiny_model)
    assert {name: torch.tensor(ids).shape for name, ids in inputs.items()} == {
        "input_ids": (2, 12),
        "attention_mask": (2, 12),
        "decoder_input_ids": (2, 7),
    }
    assert max(inputs["input_ids"][0]) < tiny_model.config.vocab_size
    encoder = build_tiny_model(KakehashiEncoderModel, is_encoder_decoder=False)
    assert "decoder_input_ids" not in fixed_inputs(encoder)
    assert auto_class_of(encoder) == "AutoModelForTextEncoding"
    assert auto_class_of(build_tiny_model(KakehashiForConditionalGeneration)) == "AutoModelForSeq2SeqLM"
