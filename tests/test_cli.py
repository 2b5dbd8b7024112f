"""The command line answers at once, fails with one line, and stops when it is told to."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from kakehashi import __version__, cli


@pytest.fixture
def failing(monkeypatch):
    """A function that makes a command `fail` raise an error and returns what `main` does with it."""
    app = typer.Typer(callback=cli.set_global_options, pretty_exceptions_enable=False)
    monkeypatch.setattr(cli, "app", app)

    def run(error, *options):
        def fail():
            raise error

        app.command("fail")(fail)
        app.command("other")(lambda: None)
        return cli.main([*options, "fail"])

    return run


def test_help_is_quick_and_imports_neither_torch_nor_transformers():
    # Seconds of this process, not of the clock: other tests share the cores.
    code = (
        "import time; start = time.process_time()\nfrom kakehashi import cli\n"
        "for arguments in ([], ['--help'], ['generate', '--help'], ['pretrain', '--help'], ['recipes', '--help'],\n"
        "        ['recipes', 'keys', '--help'], ['recipes', 'keys', 'instruct']):\n"
        "    assert cli.main(arguments) == 0, arguments\n"
        "seconds = time.process_time() - start\n"
        "import sys; heavy = {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert seconds < 0.9, seconds"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)


def test_without_arguments_it_prints_help():
    result = CliRunner().invoke(cli.app, [])
    assert result.exit_code == 0
    for name in typer.main.get_command(cli.app).commands:
        assert name in result.stdout


@pytest.mark.parametrize("name", sorted(typer.main.get_command(cli.app).commands))
def test_every_command_has_help(name):
    result = CliRunner().invoke(cli.app, [name, "--help"])
    assert result.exit_code == 0 and "Usage: " in result.stdout
    assert typer.main.get_command(cli.app).commands[name].get_short_help_str()


@pytest.mark.parametrize(("name", "extras"), [("export", ["onnx", "ctranslate2"]), ("space", ["space"])])
def test_help_names_the_extra_that_a_command_needs(name, extras):
    shown = CliRunner().invoke(cli.app, [name, "--help"], env={"COLUMNS": "200"}).stdout
    for extra in extras:
        assert f"'kakehashi[{extra}]'" in shown


def test_version_is_printed_alone(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_python_m_kakehashi_is_the_command(monkeypatch, capsys):
    import runpy

    monkeypatch.setattr(sys, "argv", ["kakehashi", "--version"])
    with pytest.raises(SystemExit) as exit_request:
        runpy.run_module("kakehashi", run_name="__main__")
    assert exit_request.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("`noise` must be below 1,\n  got 3"), "`noise` must be below 1, got 3"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "a.txt: No such file or directory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("the Hub is away"), "the Hub is away"),
        (ValueError(), "ValueError"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(failing, capsys, error, line):
    assert failing(error) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err == f"kakehashi: error: {line}\n"


def test_of_several_processes_the_first_alone_says_what_is_wrong(failing, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert failing(ValueError("three")) == 2
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.strip() == ""
    monkeypatch.setenv("RANK", "0")
    assert failing(ValueError("three")) == 2
    assert capsys.readouterr().err == "kakehashi: error: three\n"


def test_once_processes_have_joined_each_says_what_it_met(failing, monkeypatch, capsys):
    import torch.distributed

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setenv("RANK", "1")
    assert failing(ValueError("three")) == 2
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.strip() == "kakehashi: process 1: error: three"


def test_an_error_that_nobody_reads_any_more_keeps_its_exit_code(failing, monkeypatch):
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=break_pipe, flush=lambda: None))
    assert failing(ValueError("three")) == 2
    assert failing(KeyboardInterrupt()) == 130


def break_pipe(_):
    raise BrokenPipeError


def test_traceback_shows_the_whole_error(failing):
    with pytest.raises(ValueError, match="three"):
        failing(ValueError("three"), "--traceback")


def test_our_own_mistakes_keep_their_traceback(failing):
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def test_an_interrupted_command_says_so_and_exits_with_130(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.endswith("kakehashi: interrupted\n")


def test_a_command_chooses_its_own_exit_code(failing, capsys):
    assert failing(typer.Exit(130)) == 130
    assert capsys.readouterr().err == ""


def test_an_unknown_command_or_option_is_a_usage_error(capsys):
    assert cli.main(["generat"]) == 2
    assert "No such command 'generat'" in capsys.readouterr().err
    assert cli.main(["generate", "runs", "--beams", "3"]) == 2
    assert "--beams" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error():
    code = "import sys; from kakehashi import cli; sys.exit(cli.main(['--help']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
