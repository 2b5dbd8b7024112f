"""What the folder of a finished run says."""

import pytest
import torch
from safetensors.torch import save_file

from kakehashi.training.finished_run import (
    count_stored_parameters,
    fingerprint_weights,
    is_finished_run,
    read_finished_run,
)


def test_a_finished_run_is_read_once(finish_run):
    run = read_finished_run(finish_run())
    assert run.architecture == "KakehashiForConditionalGeneration"
    assert run.stage == "instruct"
    assert run.recipe["learning_rate"] == 0.003 and run.metrics["train_examples"] == 50000
    assert run.sources("train_files") == ["pairs.tsv", "user/pairs"]
    assert run.sources("test_files") == []


def test_a_folder_beside_the_run_is_not_taken_for_a_hub_id(finish_run):
    folder = finish_run()
    assert read_finished_run(folder).is_hub_id("runs/pretrain")
    (folder.parent / "runs" / "pretrain").mkdir(parents=True)
    run = read_finished_run(folder)
    assert not run.is_hub_id("runs/pretrain") and run.shown("runs/pretrain") == "pretrain"


@pytest.mark.parametrize("source", ["Qwen/Qwen2.5-0.5B", "user/model-v1.5", "user/pairs:en-ja"])
def test_a_dot_or_a_configuration_makes_no_file_of_a_hub_id(finish_run, source):
    run = read_finished_run(finish_run(recipe={"model": source}))
    assert run.is_hub_id(source) and run.start == source


@pytest.mark.parametrize("source", ["/a/b", "~/b", "./b", "C:\\data\\b", "a/*.txt", "a/b.tsv.xz", "b", "a/b/c"])
def test_what_lies_on_a_machine_is_shown_by_its_last_name(finish_run, source):
    run = read_finished_run(finish_run())
    assert not run.is_hub_id(source)
    assert "/" not in run.shown(source) and "\\" not in run.shown(source)


@pytest.mark.parametrize("name", ["config.json", "recipe.yaml", "versions.json", "metrics.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_no_finished_run(finish_run, name):
    folder = finish_run()
    assert is_finished_run(folder)
    (folder / name).unlink()
    assert not is_finished_run(folder)
    with pytest.raises(ValueError, match=r"`run_dir` must be the folder of a finished run, got .* without \w+"):
        read_finished_run(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        read_finished_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content"), [("recipe.yaml", "a: [1"), ("metrics.json", "{"), ("metrics.json", "[]")]
)
def test_a_damaged_file_is_named(finish_run, name, content):
    folder = finish_run()
    (folder / name).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=rf"{name} (cannot be read|must hold keys and values)"):
        read_finished_run(folder)


def test_the_fingerprint_sees_values_and_not_how_they_are_split(tmp_path):
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    whole, split, changed = (tmp_path / name for name in ("whole", "split", "changed"))
    for folder in (whole, split, changed):
        folder.mkdir()
    save_file(weights, whole / "model.safetensors", metadata={"format": "pt"})
    for name in weights:
        save_file({name: weights[name]}, split / f"{name}.safetensors")
    save_file({**weights, "b": weights["b"] * 2}, changed / "model.safetensors")
    assert fingerprint_weights(whole) == fingerprint_weights(split) != fingerprint_weights(changed)
    assert count_stored_parameters(whole) == count_stored_parameters(split) == 8
