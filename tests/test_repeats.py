"""Folds and few shots: which rows each part has, what is kept, and the spread of the scores."""

import json
import re
import statistics
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

from kakehashi.training.arguments import ClassifyArguments
from kakehashi.training.classify import run_classify, train_classifier
from kakehashi.training.recipe import parse_recipe, read_overrides, read_recipe
from kakehashi.training.repeats import cut_parts, run_repeats, show_summary, summarize
from kakehashi.training.run_folder import no_empty_folder_left
from kakehashi.training.splits import Splits


@pytest.fixture
def splits():
    """Thirty rows of three labels, of which one is rare."""
    labels = ["a"] * 15 + ["b"] * 12 + ["c"] * 3
    return Splits(Dataset.from_dict({"text": [f"text {i}" for i in range(30)], "label": labels}), None, None)


def parts_of(splits, **keys):
    return list(cut_parts(splits, ClassifyArguments(**keys), 0))


def test_every_row_is_tested_on_once_and_every_fold_has_its_share_of_each_label(splits):
    parts = parts_of(splits, folds=3)
    assert [part.name for part in parts] == ["fold-1", "fold-2", "fold-3"]
    tested = [text for part in parts for text in part.splits.test["text"]]
    assert sorted(tested) == sorted(splits.train["text"])
    for part in parts:
        assert not set(part.splits.train["text"]) & set(part.splits.test["text"])
        assert [list(part.splits.test["label"]).count(label) for label in "abc"] == [5, 4, 1]
    again = parts_of(splits, folds=3)
    assert [part.splits.test["text"][:] for part in parts] == [part.splits.test["text"][:] for part in again]


def test_other_labels_are_folded_without_shares():
    rows = Dataset.from_dict({"text": ["x"] * 4, "label": [0.1, 0.2, 0.3, 0.4]})
    parts = parts_of(Splits(rows, None, None), folds=2)
    assert all(part.splits.rows_as_read is rows for part in parts)
    assert sorted(label for part in parts for label in part.splits.test["label"]) == [0.1, 0.2, 0.3, 0.4]


def test_a_few_rows_of_each_label_are_drawn_anew_for_each_seed(splits):
    parts = parts_of(splits, shots=4, seeds=3)
    assert [(part.name, part.seed) for part in parts] == [("seed-1", 0), ("seed-2", 1), ("seed-3", 2)]
    for part in parts:
        assert [list(part.splits.train["label"]).count(label) for label in "abc"] == [4, 4, 3]
        assert len(part.splits.test) == 30 - 11
    assert parts[0].splits.train["text"][:] != parts[1].splits.train["text"][:]
    own = Dataset.from_dict({"text": ["t"], "label": ["a"]})
    assert parts_of(Splits(splits.train, None, own), shots=1, seeds=1)[0].splits.test is own


def test_rows_that_cannot_be_divided_are_told(splits, capsys):
    parts_of(splits, folds=5)
    assert "some labels have fewer rows than there are folds (5)" in capsys.readouterr().err
    for keys, message in [
        ({"folds": 20}, "`folds` must be fewer for 30 rows, got 20"),
        ({"shots": 15}, "`shots` must leave rows to test on, .* got 15 of 30 rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            parts_of(splits, **keys)
    with pytest.raises(ValueError, match="`test_files` must be left out with `folds`"):
        parts_of(Splits(splits.train, None, splits.train), folds=2)
    with pytest.raises(ValueError, match="`shots` needs rows with one label each"):
        parts_of(Splits(Dataset.from_dict({"label": [0.5]}), None, None), shots=1)
    for keys, message in [
        ({"folds": 1}, "`folds` must be at least 2, got 1"),
        ({"shots": 1, "seeds": 0}, "`seeds` must be at least 1, got 0"),
        ({"folds": 2, "shots": 2}, "`folds` must be left out with `shots`"),
    ]:
        with pytest.raises(ValueError, match=message):
            ClassifyArguments(**keys)


def test_the_summary_has_mean_and_spread_of_each_score(capsys):
    measured = {
        "fold-1": {"steps": 3, "test_accuracy": 0.5, "test_runtime": 1.0},
        "fold-2": {"steps": 3, "test_accuracy": 0.7, "test_runtime": 2.0},
    }
    summary = summarize(measured)
    spread = statistics.stdev([0.5, 0.7])
    assert summary == {"test_accuracy": {"mean": pytest.approx(0.6), "std": spread, "values": [0.5, 0.7]}}
    show_summary(summary, "2 runs")
    assert f"0.6000 ± {spread:.4f}" in capsys.readouterr().err
    assert summarize({"seed-1": measured["fold-1"]})["test_accuracy"]["std"] == 0.0


@pytest.fixture
def recipe(tmp_path, tiny_model_dir, tiny_sentences):
    rows = [f"{text}\t{'en' if index < 5 else 'ja'}" for index, text in enumerate(tiny_sentences)]
    (tmp_path / "rows.tsv").write_text("\n".join(["text\tlabel", *rows, ""]), encoding="utf-8")
    return {
        "model": str(tiny_model_dir),
        "train_files": [str(tmp_path / "rows.tsv")],
        "max_steps": 2,
        "save_strategy": "no",
        "max_length": 32,
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }


def parse(recipe, **keys):
    return parse_recipe(ClassifyArguments, {**recipe, **keys})


def test_each_fold_leaves_a_model_folder_and_all_of_them_a_summary(recipe, tmp_path, tiny_sentences):
    metrics = run_classify(*parse(recipe, folds=2))
    assert {"test_accuracy_mean", "test_accuracy_std", "test_macro_f1_mean"} <= set(metrics)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "fold-1",
        "fold-2",
        "recipe.yaml",
        "run_files.json",
        "summary.json",
    }
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    scores = [json.loads((tmp_path / "run" / f"fold-{each}" / "metrics.json").read_text()) for each in (1, 2)]
    assert summary["scores"]["test_accuracy"]["values"] == [each["test_accuracy"] for each in scores]
    assert (summary["parts"], summary["of"]) == (2, 2)
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "fold-2").config
    assert config.id2label == {0: "en", 1: "ja"}
    with pytest.raises(ValueError, match="`output_dir` must be empty"):
        run_classify(*parse(recipe, folds=2))
    run_classify(*parse(recipe, shots=2, seeds=1, overwrite=True))
    assert not (tmp_path / "run" / "fold-1").exists() and (tmp_path / "run" / "seed-1" / "metrics.json").exists()


def test_a_part_says_which_rows_it_had_and_its_recipe_repeats_it(recipe, tmp_path):
    run_classify(*parse(recipe, shots=2, seeds=2, learning_rate=0.01, validation_split=0.2))
    folder = tmp_path / "run" / "seed-2"
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = len((tmp_path / "rows.tsv").read_text("utf-8").splitlines()) - 1
    keys = {"shots": 2, "seeds": 2, "seed": 42}
    assert metrics["part"] == {"name": "seed-2", "train_rows": 4, "of_rows": rows - round(0.2 * rows), "keys": keys}
    header = (folder / "recipe.yaml").read_text("utf-8")
    command = re.search(r"^#   kakehashi classify recipe.yaml (.* --output_dir) OTHER$", header, re.MULTILINE)
    overrides = read_overrides([*command[1].split(), str(tmp_path / "again")])
    run_classify(*parse_recipe(ClassifyArguments, read_recipe(folder / "recipe.yaml"), overrides))
    again = json.loads((tmp_path / "again" / "seed-2" / "metrics.json").read_text())
    for key in ("part", "train_loss", "test_loss"):
        assert again[key] == metrics[key], key


def test_a_fold_says_that_it_is_one(splits):
    part = parts_of(splits, folds=3)[1].splits.part
    assert part == {"name": "fold-2", "train_rows": 20, "of_rows": 30, "keys": {"folds": 3, "seed": 0}}


def test_complete_folds_are_kept_and_the_others_gone_on_with(recipe, tmp_path, capsys):
    trained = []

    def train_until_the_second(arguments, training_arguments, splits, names):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(training_arguments.output_dir)
        return train_classifier(arguments, training_arguments, splits, names)

    with pytest.raises(KeyboardInterrupt):
        run_repeats(*parse(recipe, folds=2), train_until_the_second)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["parts"] == 1
    first = (tmp_path / "run" / "fold-1" / "metrics.json").read_bytes()
    with pytest.raises(ValueError, match=r"`max_steps` must be that of the parts that are kept, 2 in .*run, got 3"):
        run_classify(*parse(recipe, folds=2, max_steps=3, resume_from_checkpoint="newest"))
    capsys.readouterr()
    run_classify(*parse(recipe, folds=2, resume_from_checkpoint="newest"))
    assert "fold-1 is complete already, kept" in capsys.readouterr().err
    assert (tmp_path / "run" / "fold-1" / "metrics.json").read_bytes() == first
    assert (tmp_path / "run" / "fold-2" / "metrics.json").exists()


def test_a_fold_with_a_checkpoint_is_not_gone_on_with_by_another_recipe(recipe, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_repeats(*parse(recipe, folds=2), leave_checkpoint)
    with pytest.raises(ValueError, match=r"`folds` must be that of the parts that are kept, 2 in .*run, got 3"):
        run_repeats(*parse(recipe, folds=3, resume_from_checkpoint="newest"), be_killed)


def leave_checkpoint(arguments, training_arguments, splits, names):
    (Path(training_arguments.output_dir) / "checkpoint-1").mkdir(parents=True)
    raise KeyboardInterrupt


def test_a_fold_cut_off_after_a_checkpoint_goes_on_from_it(recipe, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("kakehashi.training.classify.finish_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_classify(*parse(recipe, folds=2, save_strategy="steps", save_steps=1))
    capsys.readouterr()
    run_classify(*parse(recipe, folds=2, save_strategy="steps", save_steps=1, resume_from_checkpoint="newest"))
    assert "going on from" in capsys.readouterr().err
    with pytest.raises(ValueError, match="`--resume` needs the parts of an earlier run in `output_dir`, got none"):
        run_classify(*parse(recipe, folds=2, output_dir=str(tmp_path), resume_from_checkpoint="newest"))


def leave_metrics(arguments, training_arguments, splits, names):
    """Stands for training: a part that is complete at once."""
    folder = Path(training_arguments.output_dir)
    folder.mkdir()
    (folder / "metrics.json").write_text('{"test_accuracy": 0.5}')
    return {"test_accuracy": 0.5}


def be_killed(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_recipe_that_cannot_begin_leaves_the_folder_as_it_was(recipe, tmp_path, overwrite):
    run = tmp_path / "run"
    if overwrite:
        run_repeats(*parse(recipe, folds=2), leave_metrics)
    before = {path.name for path in tmp_path.rglob("*")}
    with (
        pytest.raises(ValueError, match="`model` must be a folder with"),
        no_empty_folder_left(run),
    ):
        run_classify(*parse(recipe, folds=2, model="none/none/none", overwrite=overwrite))
    assert {path.name for path in tmp_path.rglob("*")} == before
    assert run.exists() is overwrite


def test_a_part_that_cannot_begin_leaves_the_others(recipe, tmp_path):
    run_repeats(*parse(recipe, shots=1, seeds=1), leave_metrics)
    before = {path.name for path in tmp_path.rglob("*")}
    with pytest.raises(KeyboardInterrupt):
        run_repeats(*parse(recipe, shots=1, seeds=2, resume_from_checkpoint="newest"), be_killed)
    assert {path.name for path in tmp_path.rglob("*")} == before


def test_a_run_killed_before_its_recipe_is_written_goes_on(recipe, tmp_path):
    (tmp_path / "run" / ".writing-1").mkdir(parents=True)
    (tmp_path / "run" / "run_files.json").write_text('["recipe.yaml"]')
    run_repeats(*parse(recipe, folds=2, resume_from_checkpoint="newest"), leave_metrics)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"fold-1", "fold-2", "recipe.yaml", "run_files.json", "summary.json"}


def test_resuming_removes_what_kept_parts_no_longer_need(recipe, tmp_path):
    run_repeats(*parse(recipe, folds=2), leave_metrics)
    leftovers = [tmp_path / "run" / ".writing-1", tmp_path / "run" / "fold-1" / "checkpoint-2"]
    for folder in leftovers:
        folder.mkdir()
    run_repeats(*parse(recipe, folds=2, resume_from_checkpoint="newest"), be_killed)
    assert not any(folder.exists() for folder in leftovers)


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({"folds": 2}, {"folds": 3}, "`folds` must be that of the parts that are kept, 2 in .*run, got 3"),
        ({"folds": 2}, {"shots": 1}, "`folds` must be that of the parts that are kept, 2 in .*run, got None"),
        ({"shots": 1, "seeds": 1}, {"shots": 2, "seeds": 1}, "`shots` must be that of the parts"),
        ({"folds": 2}, {"folds": 2, "max_steps": 3}, "`max_steps` must be that of the parts"),
    ],
)
def test_parts_of_another_recipe_are_not_kept_and_its_recipe_stays(recipe, tmp_path, first, then, message):
    run_repeats(*parse(recipe, **first), leave_metrics)
    before = (tmp_path / "run" / "recipe.yaml").read_bytes()
    with pytest.raises(ValueError, match=message):
        run_repeats(*parse(recipe, **then, resume_from_checkpoint="newest"), leave_metrics)
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == before


def test_more_seeds_keep_those_that_are_there(recipe, tmp_path):
    run_repeats(*parse(recipe, shots=1, seeds=1), leave_metrics)
    run_repeats(*parse(recipe, shots=1, resume_from_checkpoint="newest"), leave_metrics)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["parts"], summary["of"]) == (5, 5)
