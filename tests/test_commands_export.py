"""`kakehashi export`, and the commands that run what it wrote."""

import json

import pytest
from typer.testing import CliRunner

from kakehashi import cli

pytestmark = pytest.mark.usefixtures("verbosity")

pytest.importorskip("ctranslate2")


def run(*arguments, stdin=None):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def exported(tiny_model_dir, tmp_path):
    run("export", tiny_model_dir, "--format", "ctranslate2", "--output-dir", tmp_path / "ct2")
    return tmp_path / "ct2"


def test_export_says_what_it_wrote(tiny_model_dir, tmp_path):
    result = run(
        *("export", tiny_model_dir, "--format", "ctranslate2", "--output-dir", tmp_path / "ct2"),
        *("--quantization", "int8"),
    )
    assert result.exit_code == 0 and (tmp_path / "ct2" / "model.bin").is_file()
    assert "format    ctranslate2, int8\n" in result.stdout
    assert f"saved in  {tmp_path / 'ct2'}, " in result.stdout


def test_an_exported_folder_answers_as_its_model(exported, tiny_model_dir):
    for command in (["generate", "--max-new-tokens", "4"], ["translate", "--to", "ja", "--num-beams", "2"]):
        lines = "I love cats.\n\nDo you want to eat an apple?\n"
        answers = [run(command[0], folder, *command[1:], stdin=lines).stdout for folder in (exported, tiny_model_dir)]
        assert answers[0] == answers[1] and answers[0].count("\n") == 3


def test_draws_of_an_exported_folder_follow_the_seed(exported):
    command = ("generate", exported, "I love cats.", "--do-sample", "--temperature", "5", "--max-new-tokens", "6")
    first, again, other = (run(*command, "--seed", seed).stdout for seed in (1, 1, 2))
    assert first == again != other


def test_an_exported_folder_is_measured(exported, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"en": "I love cats.", "ja": "私は猫が大好きです。"}) + "\n")
    result = run("evaluate", exported, "--data", data, "--to", "ja", "--max-new-tokens", 4)
    assert json.loads(result.stdout)["rows"] == 1
    data.write_text(json.dumps({"text": "I love cats."}) + "\n")
    with pytest.raises(ValueError, match="perplexity needs the model folder"):
        run("evaluate", exported, "--data", data)


def test_an_option_the_engine_lacks_is_one_line_on_stderr(exported, capsys):
    assert cli.main(["generate", str(exported), "cats", "--do-sample", "--num-beams", "2"]) == 2
    error = capsys.readouterr().err
    assert error == "kakehashi: error: ctranslate2 draws at random with `num_beams` 1 only, got 2\n"


def test_a_folder_in_use_is_refused(tiny_model_dir, tmp_path, capsys):
    arguments = ["export", str(tiny_model_dir), "--format", "ctranslate2", "--output-dir", str(tiny_model_dir)]
    assert cli.main(arguments) == 2
    assert "`output_dir` must be empty" in capsys.readouterr().err


def test_an_unknown_format_is_refused(tiny_model_dir, tmp_path):
    result = run("export", tiny_model_dir, "--format", "tflite", "--output-dir", tmp_path / "x")
    assert result.exit_code == 2 and not (tmp_path / "x").exists()
