"""What every exported folder has in common: recognised by its files, complete beside its graphs."""

import importlib.util
import json

import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from kakehashi.training.export.folder import (
    engine_of,
    require_packages,
    save_companions,
)


def test_the_engine_is_told_by_the_files(tmp_path, tiny_model_dir):
    assert engine_of(tiny_model_dir) is None
    assert engine_of("kakehashi/hub-id") is None
    assert engine_of(tiny_model_dir / "config.json") is None
    (tmp_path / "model.bin").write_bytes(b"")
    assert engine_of(tmp_path) is None
    (tmp_path / "shared_vocabulary.json").write_text("[]")
    assert engine_of(tmp_path) == "ctranslate2"
    (tmp_path / "export.json").write_text('{"export_format": "onnx"}')
    assert engine_of(tmp_path) == "onnx"


def test_an_export_for_another_engine_is_named(tmp_path):
    (tmp_path / "export.json").write_text('{"export_format": "openvino"}')
    with pytest.raises(ValueError, match=r"must be exported for onnx or ctranslate2, but .* is for openvino"):
        engine_of(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "export.json").write_text("{")
    with pytest.raises(ValueError, match=r"export\.json must be JSON"):
        engine_of(tmp_path)


def test_missing_packages_name_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx needs the package onnx, onnx_ir: pip install 'kakehashi\[onnx\]'"):
        require_packages("onnx", "onnx", "onnx_ir")


def test_configuration_tokenizer_and_generation_settings_read_as_before(tiny_model, tiny_tokenizer, tmp_path):
    (tmp_path / "config.json").write_text('{"layer_norm_epsilon": 1e-06}')
    tiny_model.generation_config.max_new_tokens = 7
    save_companions(tiny_model, tiny_tokenizer, tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.hidden_size == tiny_model.config.hidden_size
    assert config.architectures == ["KakehashiForConditionalGeneration"]
    assert json.loads((tmp_path / "config.json").read_text())["layer_norm_epsilon"] == 1e-6
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tiny_tokenizer.get_vocab()
    # Where transformers.js reads it.
    assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    assert GenerationConfig.from_pretrained(tmp_path).max_new_tokens == 7


def test_only_the_code_of_the_configuration_goes_along(tiny_model, tiny_tokenizer, tmp_path):
    save_companions(tiny_model, tiny_tokenizer, tmp_path)
    assert [path.name for path in tmp_path.glob("*.py")] == ["configuration_kakehashi.py"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"] == {"AutoConfig": "configuration_kakehashi.KakehashiConfig"}
    assert "custom_pipelines" not in config
