"""The command `check`, in process."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from kakehashi.cli import app, main


@pytest.fixture
def recipe_file(tmp_path, tiny_model_dir, tiny_sentences):
    rows = [f"{text}\t{'en' if index < 5 else 'ja'}" for index, text in enumerate(tiny_sentences)]
    (tmp_path / "rows.tsv").write_text("\n".join(["text\tlabel", *rows, ""]), encoding="utf-8")
    recipe = {
        "model": str(tiny_model_dir),
        "train_files": [str(tmp_path / "rows.tsv")],
        "label_column": "label",
        "max_length": 32,
        "warmup_steps": 100,
        "per_device_train_batch_size": 4,
        "output_dir": str(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return str(tmp_path / "recipe.yaml")


def test_tables_show_recipe_model_data_memory_and_time(recipe_file, tmp_path):
    result = CliRunner().invoke(app, ["check", recipe_file, "--max_steps", "7", "--learning-rate=1e-3"])
    assert result.exit_code == 0, result.output
    shown = result.stdout
    for text in ("Recipe (classify)", "KakehashiForSequenceClassification", "2 labels in the sample", "10 rows"):
        assert text in shown
    assert "learning_rate" in shown and "0.001" in shown
    assert "7 (2.33 epochs of 3)" in shown
    assert "warning: `warmup_steps` 100 are more than half of the run's 7 steps" in shown
    assert not (tmp_path / "run").exists()


def test_several_runs_are_named_and_their_time_is_that_of_all(recipe_file):
    shown = CliRunner().invoke(app, ["check", recipe_file, "--folds", "5"]).stdout
    assert "Data of each of 5 runs" in shown and "8 rows of data" in shown
    assert "Each of 5 runs" in shown and "6 (3.00 epochs of 2)" in shown
    assert "for all runs, without validation and checkpoints" in shown


def test_machines_get_json(recipe_file):
    result = CliRunner().invoke(app, ["check", recipe_file, "--json", "--utilization", "0.25", "--max_length", "4"])
    # Neither bars nor remarks of the stage beside it.
    assert result.stderr == ""
    checked = json.loads(result.stdout)
    assert checked["stage"] == "classify"
    assert checked["time"]["utilization"] == 0.25
    assert checked["data"]["lengths"]["text"]["cut"] > 0.5
    assert checked["run"]["steps"] == 9
    assert checked["memory"]["total"] > 0


def test_a_problem_is_one_line_on_stderr_and_exit_code_2(recipe_file, capsys):
    for arguments, message in [
        (["check", "none.yaml"], "`recipe` must be a YAML file or one of"),
        (["check", recipe_file, "--train_files", "none.tsv"], "none.tsv"),
        (["check", recipe_file, "--text_column", "body"], "no column `body`"),
        (["check", recipe_file, "--stage", "tune"], "`--stage` must be one of pretrain, instruct, classify"),
    ]:
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        error = captured.err.strip().split("\n")
        assert error[-1].startswith("kakehashi: error: ") and message in error[-1]
