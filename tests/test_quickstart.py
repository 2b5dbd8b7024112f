"""The whole road, on a small slice of the sample corpus and with a few steps per stage."""

import functools
import json

import pytest
from rich.console import Console
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

from kakehashi.training import quickstart
from kakehashi.training.recipe import read_recipe
from kakehashi.training.sample_corpus import write_sample_corpus

STAGES = ["corpus", "pretrain", "instruct", "classify", "evaluate", "load"]


def read_short_recipe(name):
    """The shipped recipe, but with two steps."""
    return {**read_recipe(name), "max_steps": 2, "per_device_train_batch_size": 8, "disable_tqdm": True}


@pytest.fixture
def small_road(monkeypatch):
    """Makes the quickstart small enough for a test; nothing of it is left out."""
    corpus = functools.partial(write_sample_corpus, num_train_pairs=3000, num_test_pairs=12)
    monkeypatch.setattr(quickstart, "write_sample_corpus", corpus)
    monkeypatch.setattr(quickstart, "read_recipe", read_short_recipe)
    monkeypatch.setattr(quickstart, "VOCAB_SIZE", 512)
    monkeypatch.setattr(quickstart, "MAX_NEW_TOKENS", 6)


def test_every_stage_leaves_a_folder_that_loads_and_the_summary_says_what_was_measured(small_road, tmp_path):
    result = quickstart.run_quickstart(tmp_path / "run", seed=0, console=Console(quiet=True))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))
    assert {**result, "examples": None} == {**summary, "examples": None}
    assert list(summary["seconds_by_stage"]) == STAGES
    assert summary["seconds_total"] >= sum(summary["seconds_by_stage"].values()) - 1
    for name in ("exact_match_en_ja", "exact_match_ja_en", "chrf_en_ja", "chrf_ja_en", "classification_accuracy"):
        assert 0 <= summary[name] <= 1
    for stage, auto_class in (
        ("pretrain", AutoModelForSeq2SeqLM),
        ("instruct", AutoModelForSeq2SeqLM),
        ("classify", AutoModelForSequenceClassification),
    ):
        folder = tmp_path / "run" / stage
        model, tokenizer = auto_class.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.config.vocab_size == len(tokenizer)
        assert (folder / "recipe.yaml").is_file() and (folder / "loss.png").is_file()
    assert (
        summary["parameters"] == AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run" / "pretrain").num_parameters()
    )
    answered = [example["input"] for example in result["examples"]]
    assert "I love cats." in answered and "私は猫が大好きです。" in answered
    lines = (tmp_path / "run" / "evaluate" / "en_ja.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 12 and {"source", "output", "is_right", "references"} == set(json.loads(lines[0]))


def test_an_output_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep", "utf-8")
    with pytest.raises(ValueError, match="`output_dir` must be empty or new, but"):
        quickstart.run_quickstart(tmp_path, seed=0, console=Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
