"""`kakehashi quickstart`, with the road itself replaced: it has a test of its own."""

import pytest
from typer.testing import CliRunner

from kakehashi import cli
from kakehashi.training import quickstart

RESULT = {
    "exact_match_en_ja": 0.9375,
    "exact_match_ja_en": 0.5,
    "chrf_en_ja": 0.875,
    "chrf_ja_en": 0.75,
    "classification_accuracy": 1.0,
    "seconds_total": 12.0,
    "seconds_by_stage": {"corpus": 5.0, "pretrain": 7.0},
    "parameters": 1234567,
    "examples": [{"task": "en → ja", "input": "I love cats.", "output": "私は猫が大好きです。"}],
}


@pytest.fixture
def asked(monkeypatch):
    """The folder and seed that the command passed on."""
    calls = []

    def run_quickstart(output_dir, seed, console):
        calls.append((str(output_dir), seed))
        return RESULT

    monkeypatch.setattr(quickstart, "run_quickstart", run_quickstart)
    return calls


def test_the_command_ends_with_the_answers_the_numbers_and_what_to_try_next(asked):
    result = CliRunner().invoke(cli.app, ["quickstart", "--output-dir", "here", "--seed", "3"])
    assert asked == [("here", 3)]
    for shown in (
        "en → ja",
        "I love cats.",
        "私は猫が大好きです。",
        "93.8%",
        "0.875",
        "1,234,567",
        "corpus",
        "here/instruct",
    ):
        assert shown in result.stdout


def test_a_folder_that_holds_something_ends_with_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep", "utf-8")
    assert cli.main(["quickstart", "--output-dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("kakehashi: error: `output_dir` must be empty or new")
    assert captured.err.count("\n") == 1 and captured.out == ""
