"""The commands `pretrain`, `instruct`, `classify` and `recipes`, in process."""

import json
import signal
from importlib.util import find_spec

import pytest
import yaml
from transformers import TrainerCallback
from typer.testing import CliRunner

from kakehashi.cli import app, main
from kakehashi.training.arguments import STAGES, TRAINING_DEFAULTS
from kakehashi.training.run import build_run


@pytest.fixture
def recipe_file(tmp_path, tiny_model_dir, tiny_sentences):
    rows = [f"{text}\t{'en' if index < 5 else 'ja'}" for index, text in enumerate(tiny_sentences)]
    (tmp_path / "rows.tsv").write_text("\n".join(["text\tlabel", *rows, ""]), encoding="utf-8")
    recipe = {
        "model": str(tiny_model_dir),
        "train_files": [str(tmp_path / "rows.tsv")],
        "max_steps": 3,
        "save_steps": 1,
        "max_length": 32,
        "max_source_length": 32,
        "max_target_length": 32,
        "per_device_train_batch_size": 4,
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }
    return recipe, tmp_path / "recipe.yaml"


def write(recipe, file, *left_out):
    file.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if key not in left_out}))
    return str(file)


def test_a_recipe_runs_and_prints_its_numbers(recipe_file, tmp_path):
    file = write(*recipe_file, "max_source_length", "max_target_length")
    result = CliRunner().invoke(app, ["classify", file, "--max_steps", "2", "--learning-rate=1e-3"])
    assert result.exit_code == 0, result.output
    printed = dict(line.split("\t") for line in result.stdout.strip().split("\n"))
    assert printed["steps"] == "2"
    saved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert saved["learning_rate"] == 1e-3
    assert json.loads((tmp_path / "run" / "versions.json").read_text())["torch"]


@pytest.mark.parametrize(("command", "left_out"), [("pretrain", ()), ("instruct", ("max_length",))])
def test_the_other_stages_run_from_the_command_line(recipe_file, tmp_path, command, left_out):
    recipe, file = recipe_file
    if command == "instruct":
        recipe |= {"source_template": ["What language? {text}"], "target_template": ["{label}"]}
    result = CliRunner().invoke(app, [command, write(recipe, file, *left_out), "--max_steps", "1"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "metrics.json").exists()


def test_bad_input_is_one_line_on_stderr_and_exit_code_2(recipe_file, capsys):
    file = write(*recipe_file, "max_source_length", "max_target_length")
    for arguments, message in [
        (["classify", "none.yaml"], "`recipe` must be a YAML file or one of"),
        (["classify", file, "--max_step", "3"], "`max_step` is not a recipe key; did you mean `max_steps`?"),
        (["classify", file, "--max_steps", "three"], "`max_steps` must be a whole number, got 'three'"),
        (["classify", file, "--train_files", "none.tsv"], "none.tsv"),
        (["classify", file, "--resume"], "`--resume` needs a checkpoint"),
        (["classify", file, "--folds", "1"], "`folds` must be at least 2, got 1"),
        (["classify", file, "--freeze", "encoders"], "`freeze` must name modules of the model, got 'encoders'"),
    ]:
        assert main(arguments) == 2
        error = capsys.readouterr().err.strip().split("\n")[-1]
        assert error.startswith("kakehashi: error: ")
        assert message in error


@pytest.mark.parametrize(
    ("key", "value", "package"), [("use_liger_kernel", "true", "liger-kernel"), ("deepspeed", "ds.json", "deepspeed")]
)
def test_a_package_that_a_key_needs_and_that_is_missing_is_named_in_one_line(
    recipe_file, monkeypatch, capsys, key, value, package
):
    if find_spec(package.replace("-", "_")) is not None:
        pytest.skip(f"{package} is here")
    file = write(*recipe_file, "max_source_length", "max_target_length")
    assert main(["classify", file, f"--{key}", value]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("kakehashi: error: the recipe needs a package that is missing: ")
    assert package in error


def test_ctrl_c_tells_in_one_line_how_to_go_on_and_resume_does(recipe_file, tmp_path, monkeypatch, capsys):
    class PressCtrlC(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            signal.raise_signal(signal.SIGINT)

    def build_interrupted(*args, **kwargs):
        run = build_run(*args, **kwargs)
        run.trainer.add_callback(PressCtrlC())
        return run

    file = write(*recipe_file, "max_source_length", "max_target_length")
    with monkeypatch.context() as patch:
        patch.setattr("kakehashi.training.classify.build_run", build_interrupted)
        assert main(["classify", file]) == 130
    last = capsys.readouterr().err.strip().split("\n")[-1]
    assert last.startswith("kakehashi: interrupted at step 1, saved ")
    assert last.endswith("go on with the same command and --resume")
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert main(["classify", file, "--resume"]) == 0
    assert "steps\t3" in capsys.readouterr().out


def test_shipped_recipes_are_listed_and_copied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    listed = runner.invoke(app, ["recipes", "list"]).stdout
    assert "tatoeba.yaml" in listed and "both directions" in listed
    assert runner.invoke(app, ["recipes", "copy", "tatoeba"]).stdout.strip() == "tatoeba.yaml"
    assert (tmp_path / "tatoeba.yaml").exists()
    assert main(["recipes", "copy", "tatoeba"]) == 2
    assert main(["recipes", "copy", "none"]) == 2


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_key_of_a_stage_is_printed_with_its_default_and_what_it_is_for(stage):
    *lines, last = CliRunner().invoke(app, ["recipes", "keys", stage]).stdout.strip().split("\n")
    rows = {key: (default, text) for key, default, text in (line.split("\t") for line in lines)}
    fields = STAGES[stage].__dataclass_fields__
    assert list(rows) == list(fields)
    assert rows["max_minutes"] == ("None", fields["max_minutes"].metadata["help"])
    assert rows["overwrite"][0] == "false"
    assert "Seq2SeqTrainingArguments" in last and "logging_steps: 50" in last
    assert all(f"{key}: " in last for key in TRAINING_DEFAULTS)


def test_a_terminal_shows_the_keys_as_a_table(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["recipes", "keys", "classify"]) == 0
    shown = capsys.readouterr().out
    assert "what it is for" in shown and "label_column" in shown and "\t" not in shown


def test_an_unknown_stage_has_no_keys(capsys):
    assert main(["recipes", "keys", "tune"]) == 2
    assert "`stage` must be one of pretrain, instruct, classify, got 'tune'" in capsys.readouterr().err
