"""From a run to a folder for the Hub."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
)
from kakehashi.modeling.configuration_kakehashi import AUTO_MAP
from kakehashi.training.evaluations import Measurement, keep_measurement
from kakehashi.training.publish import folder as publishing
from kakehashi.training.publish.folder import assemble_folder, code_files


@pytest.fixture
def assemble(monkeypatch, tmp_path):
    """A function that makes the folder of a run, without the trial in another process, which has tests of its own."""
    monkeypatch.setattr(publishing, "compare_as_stranger", lambda model, folder: dict(AUTO_MAP))

    def make(run_dir, destination=tmp_path / "for-the-hub", **settings):
        assemble_folder(run_dir, "user/first", destination, **settings)
        return destination

    return make


@pytest.mark.parametrize(
    ("model_class", "stage", "settings"),
    [
        (KakehashiForConditionalGeneration, "instruct", {}),
        (KakehashiForCausalLM, "pretrain", {"is_encoder_decoder": False, "is_decoder": True}),
        (KakehashiForMaskedLM, "pretrain", {"is_encoder_decoder": False}),
        (KakehashiForSequenceClassification, "classify", {"num_labels": 3}),
    ],
)
def test_the_folder_is_complete_for_every_kind_of_run(finish_run, assemble, model_class, stage, settings):
    folder = assemble(finish_run(model_class, stage, **settings))
    names = {path.name for path in folder.iterdir()}
    expected = {"README.md", "LICENSE", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    expected |= {"recipe.yaml", "versions.json", "metrics.json", "loss.png"} | {path.name for path in code_files()}
    assert names - {"generation_config.json"} == expected
    assert ("generation_config.json" in names) == stage.startswith("instruct") or model_class is KakehashiForCausalLM
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["auto_map"] == AUTO_MAP and config["architectures"] == [model_class.__name__]
    assert "Apache License" in (folder / "LICENSE").read_text("utf-8")
    assert json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["chat_template"]


def test_records_of_the_run_name_no_folder_and_no_command(finish_run, assemble):
    run_dir = finish_run(recipe={"tokenizer": "/home/someone/tok", "hub_token": "secret", "deepspeed": "/x/y.json"})
    keep_measurement(run_dir, Measurement("generation", ["test.tsv"], 3, {"chrf": 0.5}))
    folder = assemble(run_dir)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text("utf-8"))
    assert recipe["train_files"] == ["pairs.tsv", "user/pairs"]
    assert (recipe["tokenizer"], recipe["deepspeed"], recipe["learning_rate"]) == ("tok", "y.json", 0.003)
    assert not {"output_dir", "hub_token"} & set(recipe)
    assert json.loads((folder / "versions.json").read_text("utf-8")) == {
        "torch": "2.13.0",
        "device": "cpu",
        "cpu_cores": 2,
    }
    assert "0.5" in (folder / "README.md").read_text("utf-8")
    for path in folder.iterdir():
        assert b"someone" not in path.read_bytes(), path


def test_the_recipe_of_a_part_still_says_that_it_is_one(finish_run, assemble):
    run_dir = finish_run(KakehashiForSequenceClassification, "classify", num_labels=3)
    part = {"name": "fold-2", "train_rows": 20, "of_rows": 30, "keys": {"folds": 3, "seed": 0}}
    (run_dir / "metrics.json").write_text(json.dumps({"part": part}), "utf-8")
    recipe = (assemble(run_dir) / "recipe.yaml").read_text("utf-8")
    assert "#   kakehashi classify recipe.yaml --folds 3 --seed 0 --output_dir OTHER\n" in recipe


def test_weights_are_the_runs_own_in_one_piece_or_many(finish_run, assemble):
    run_dir = finish_run()
    whole = read_weights(run_dir)
    folder = assemble(run_dir, max_shard_size="50KB")
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(shards) > 2 and shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    assert (folder / "model.safetensors.index.json").is_file()
    assert read_weights(folder).keys() == whole.keys()
    assert all(torch.equal(weight, whole[name]) for name, weight in read_weights(folder).items())
    # Published again in one piece, no shard is left.
    assert [path.name for path in assemble(run_dir).glob("*.safetensors")] == ["model.safetensors"]


def read_weights(folder):
    weights = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            weights |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return weights


def test_a_licence_of_ones_own_goes_beside_that_of_the_code(finish_run, assemble, tmp_path):
    text = tmp_path / "my-licence.txt"
    text.write_text("Do as you like.", "utf-8")
    folder = assemble(finish_run(), license="cc-by-4.0", license_file=text)
    assert (folder / "LICENSE").read_text("utf-8") == "Do as you like."
    assert "Apache License" in (folder / "LICENSE-CODE").read_text("utf-8")
    assert "license: cc-by-4.0" in (folder / "README.md").read_text("utf-8")


def no_tokenizer(run_dir):
    for path in run_dir.glob("tokenizer*"):
        path.unlink()


def only_bin_weights(run_dir):
    (run_dir / "model.safetensors").rename(run_dir / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "settings", "message"),
    [
        (no_tokenizer, {}, r"has no tokenizer: copy tokenizer\.json"),
        (
            only_bin_weights,
            {},
            r"pytorch_model\.bin can run code when it is read, .* convert its weights to safetensors",
        ),
        (lambda run: (run / "model.safetensors").unlink(), {}, r"without weights"),
        (lambda run: (run / "recipe.yaml").unlink(), {}, r"without recipe\.yaml: a card is filled from a run"),
        (lambda run: (run / "training_args.bin").write_bytes(b"x"), {}, r"training_args\.bin can run code"),
        (lambda run: None, {"license": "Apache 2"}, r"`license` must be spelled as the Hub spells it"),
        (lambda run: None, {"license": "mit"}, r"`--license-file` must name the text of the licence mit, got nothing"),
        (lambda run: None, {"max_shard_size": "huge"}, r"`--max-shard-size` must be a size such as 5GB"),
    ],
)
def test_a_run_that_cannot_be_published_is_refused_and_nothing_is_written(
    finish_run, assemble, tmp_path, damage, settings, message
):
    run_dir = finish_run()
    damage(run_dir)
    with pytest.raises(ValueError, match=message):
        assemble(run_dir, **settings)
    assert [path.name for path in tmp_path.iterdir()] == [run_dir.name]


def test_a_run_without_a_licence_is_refused(finish_run, assemble):
    with pytest.raises(ValueError, match=r"`--license` must name the licence of the weights .* no key `license`"):
        assemble(finish_run(recipe={"license": None}))


def test_a_licence_file_that_is_not_there_is_named(finish_run, assemble, tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*nowhere"):
        assemble(finish_run(), license_file=tmp_path / "nowhere")


def test_an_earlier_folder_is_replaced_and_one_of_others_is_not(finish_run, assemble, tmp_path):
    run_dir = finish_run()
    folder = assemble(run_dir)
    (folder / "README.md").write_text("old", "utf-8")
    assemble(run_dir)
    assert (folder / "README.md").read_text("utf-8") != "old"
    (folder / "thesis.docx").write_text("mine", "utf-8")
    with pytest.raises(
        ValueError, match=r"`--output-dir` must be empty or published before, but .* holds thesis\.docx"
    ):
        assemble(run_dir)
    assert (folder / "thesis.docx").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first-model", "for-the-hub"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows moves no folder that a program runs in")
def test_the_folder_may_be_the_one_that_a_program_runs_in(finish_run, assemble, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assemble(finish_run(), Path("."))
    assert (tmp_path / "here" / "README.md").is_file()


def test_a_folder_that_fails_its_trial_does_not_appear(finish_run, assemble, monkeypatch, tmp_path):
    folder = assemble(finish_run())
    before = (folder / "README.md").read_bytes()

    def fail(model, folder):
        raise ValueError("answers otherwise")

    monkeypatch.setattr(publishing, "compare_as_stranger", fail)
    with pytest.raises(ValueError, match="answers otherwise"):
        assemble(finish_run(recipe={"language": ["en"]}))
    assert (folder / "README.md").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first-model", "for-the-hub"]


def test_a_file_in_the_folders_place_is_named(finish_run, assemble, tmp_path):
    (tmp_path / "for-the-hub").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"`--output-dir` must be a folder, got the file"):
        assemble(finish_run())
