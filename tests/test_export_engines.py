"""What is refused before an engine is asked, and what each needs."""

import importlib.util
from types import SimpleNamespace

import pytest
import transformers
from transformers import T5Config, T5ForConditionalGeneration

from kakehashi.training.export.engines import export_model, load_exported
from kakehashi.training.export.onnx import require_exporters, require_fixed_angles


def test_an_unknown_engine_or_number_format_is_refused(tiny_model, tiny_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="`engine` must be one of onnx, ctranslate2, got 'tflite'"):
        export_model(tiny_model, tiny_tokenizer, tmp_path / "export", "tflite")
    with pytest.raises(ValueError, match="`quantization` must be one of int8, float16 or None, got 'int4'"):
        export_model(tiny_model, tiny_tokenizer, tmp_path / "export", "onnx", "int4")


def test_a_model_of_others_is_refused(tiny_tokenizer, tmp_path):
    shape = {"vocab_size": len(tiny_tokenizer), "d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16}
    model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0))
    with pytest.raises(ValueError, match="must be a kakehashi model to be exported, got t5"):
        export_model(model, tiny_tokenizer, tmp_path / "export", "onnx")


@pytest.mark.parametrize("engine", ["onnx", "ctranslate2"])
def test_a_folder_in_use_is_refused_at_once(tiny_model, tiny_tokenizer, tmp_path, engine):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="`output_dir` must be empty"):
        export_model(tiny_model, tiny_tokenizer, tmp_path, engine)


@pytest.mark.parametrize("engine", ["onnx", "ctranslate2"])
def test_a_missing_engine_names_its_extra(tiny_model, tiny_tokenizer, tiny_config, tmp_path, monkeypatch, engine):
    monkeypatch.setattr(transformers, "exporters", SimpleNamespace(ExportedModel=None))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"{engine} needs the package .*: pip install 'kakehashi\[{engine}\]'"):
        export_model(tiny_model, tiny_tokenizer, tmp_path / "export", engine)
    with pytest.raises(ValueError, match=rf"{engine} needs the package"):
        load_exported(tmp_path, engine, tiny_config)
    assert list(tmp_path.iterdir()) == []


def test_an_older_transformers_is_explained(monkeypatch):
    monkeypatch.setattr(transformers, "exporters", SimpleNamespace())
    with pytest.raises(ValueError, match=r"onnx needs transformers 5\.23 or newer"):
        require_exporters()


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_angles_that_change_with_the_length_are_refused(tiny_config, rope_type):
    require_fixed_angles(tiny_config)
    tiny_config.rope_parameters = {"rope_type": rope_type, "rope_theta": 10000.0}
    with pytest.raises(ValueError, match=f"whose angles change with the length, got '{rope_type}'"):
        require_fixed_angles(tiny_config)
