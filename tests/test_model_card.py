"""A model card says what the run folder says."""

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiModel,
)
from kakehashi.training.model_card import count_stored_parameters, write_model_card

RECIPE = {
    "preset": "nano",
    "train_files": ["/home/someone/private/pairs.tsv", "user/pairs"],
    "validation_files": ["/home/someone/private/valid.tsv"],
    "learning_rate": 0.003,
    "max_steps": 7,
    "output_dir": "/home/someone/runs/first",
}
METRICS = {
    "eval_loss": 1e-05,
    "eval_exact_match": 0.91234,
    "train_examples": 50000,
    "rate": 11592.7,
    "note": "text is no metric",
}
VERSIONS = {"torch": "2.13.0", "device": "cpu", "cpu_cores": 2, "accelerator": None, "command": "/home/someone/x"}


@pytest.fixture
def finish_run(build_tiny_model, tiny_tokenizer, tmp_path):
    """A function that writes the folder of a finished run of any model class and stage."""

    def finish(model_class=KakehashiForConditionalGeneration, stage="instruct", **overrides):
        folder = tmp_path / "first-model"
        build_tiny_model(model_class, **overrides).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        header = f"# To repeat it:\n#   kakehashi {stage} recipe.yaml --output_dir OTHER\n"
        (folder / "recipe.yaml").write_text(header + yaml.safe_dump(RECIPE), "utf-8")
        (folder / "metrics.json").write_text(json.dumps(METRICS), "utf-8")
        (folder / "versions.json").write_text(json.dumps(VERSIONS), "utf-8")
        (folder / "loss.png").write_bytes(b"")
        return folder

    return finish


def test_the_card_is_filled_from_the_run(finish_run):
    folder = finish_run()
    path = write_model_card(folder, name="user/first", data_licence="CC BY 2.0 FR", languages=["en", "ja"])
    text = path.read_text("utf-8")
    assert path == folder / "README.md"
    assert "| `eval_exact_match` | 0.9123 |" in text
    assert "| `eval_loss` | 1e-05 |" in text
    assert "| `train_examples` | 50,000 |" in text
    assert "| `rate` | 11,593 |" in text
    assert "| `learning_rate` | `0.003` |" in text
    assert "| training | `pairs.tsv`, `user/pairs` |" in text
    assert "Licence of the data: CC BY 2.0 FR" in text
    assert "| cpu cores | 2 |" in text
    assert "![Loss during training](loss.png)" in text
    assert "{{" not in text and "{%" not in text


def test_intended_use_and_limits_come_first(finish_run):
    text = write_model_card(finish_run()).read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.M)[0] == "Intended use and limits"


def test_the_metadata_is_what_the_hub_reads(finish_run):
    data = ModelCard.load(write_model_card(finish_run(), languages=["en", "ja"])).data
    assert data.library_name == "transformers"
    assert data.license == "apache-2.0"
    assert data.language == ["en", "ja"]
    assert data.datasets == ["user/pairs"]
    assert data.base_model is None


def test_the_card_names_no_folder_of_the_machine(finish_run):
    assert "someone" not in write_model_card(finish_run()).read_text("utf-8")


def test_a_card_without_the_licence_of_the_data_says_so(finish_run):
    assert "Licence of the data: not stated." in write_model_card(finish_run()).read_text("utf-8")


def test_the_card_counts_a_tied_weight_once(finish_run, build_tiny_model):
    folder = finish_run()
    model = build_tiny_model(KakehashiForConditionalGeneration)
    assert count_stored_parameters(folder) == sum(weight.numel() for weight in model.parameters())
    assert f"{count_stored_parameters(folder):,} parameters" in write_model_card(folder).read_text("utf-8")


@pytest.mark.parametrize(
    ("model_class", "stage", "settings"),
    [
        (KakehashiForConditionalGeneration, "instruct", {}),
        (KakehashiForConditionalGeneration, "pretrain", {}),
        (KakehashiForCausalLM, "pretrain", {"is_encoder_decoder": False, "is_decoder": True}),
        (KakehashiForMaskedLM, "pretrain", {"is_encoder_decoder": False}),
        (KakehashiForSequenceClassification, "classify", {"is_encoder_decoder": False, "num_labels": 3}),
    ],
)
def test_the_code_on_the_card_runs(finish_run, capsys, model_class, stage, settings):
    folder = finish_run(model_class, stage, **settings)
    text = write_model_card(folder, name=str(folder)).read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert ("apply_chat_template" in code) == (stage == "instruct")
    exec(code, {})
    assert capsys.readouterr().out.count("\n") >= 1


@pytest.mark.parametrize("name", ["config.json", "recipe.yaml", "versions.json", "metrics.json", "model.safetensors"])
def test_a_card_without_a_run_is_refused(finish_run, name):
    folder = finish_run()
    (folder / name).unlink()
    missing = "weights" if name == "model.safetensors" else re.escape(name)
    with pytest.raises(ValueError, match=rf"`run_dir` must be the folder of a finished run, got .* without {missing}"):
        write_model_card(folder)
    assert not (folder / "README.md").exists()


def test_a_model_without_a_head_has_no_card(finish_run):
    with pytest.raises(ValueError, match=r"must be one of KakehashiForConditionalGeneration, .* got KakehashiModel"):
        write_model_card(finish_run(KakehashiModel))
