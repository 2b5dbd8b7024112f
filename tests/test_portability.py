"""What the sources may not do if they are to run on Linux, macOS and Windows alike."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["kakehashi", "modeling", "tokenization", "training"]
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
# Modules that Windows does not have.
POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios"}
# Functions that it does not have, or that mean something else there.
POSIX_FUNCTIONS = {
    ("os", name) for name in ("fork", "getuid", "kill", "killpg", "mkfifo", "setsid", "symlink", "uname")
}
POSIX_FUNCTIONS |= {("signal", name) for name in ("alarm", "pause", "SIGHUP", "SIGKILL", "SIGUSR1")}


def nodes(kind):
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, kind):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def is_binary(call):
    """Whether a call of `open` names a mode for bytes."""
    modes = [*call.args[:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" in mode.value for mode in modes)


def names_encoding(call):
    return any(keyword.arg in ("encoding", None) for keyword in call.keywords)


def test_no_source_needs_a_module_that_windows_lacks():
    # What is imported if it is there, and done without if it is not.
    tried = {
        f"{place.rpartition(':')[0]}:{node.lineno}"
        for place, attempt in nodes(ast.Try)
        if any(isinstance(each.type, ast.Name) and each.type.id == "ImportError" for each in attempt.handlers)
        for node in attempt.body
    }
    for place, node in nodes((ast.Import, ast.ImportFrom)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        assert place in tried or not POSIX_MODULES & {*modules}, place


def test_no_source_calls_what_windows_lacks():
    for place, node in nodes(ast.Attribute):
        if isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in POSIX_FUNCTIONS, f"{place}: {node.value.id}.{node.attr}"


def name_of(call):
    """The last word of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_every_text_file_is_read_and_written_as_utf_8_whatever_the_locale():
    for place, call in nodes(ast.Call):
        if isinstance(call.func, ast.Name) and name_of(call) == "open":
            assert is_binary(call) or names_encoding(call), f"{place}: open without encoding"
        # `importlib.metadata` reads a file of a distribution as UTF-8 by itself, and takes no encoding.
        elif name_of(call) in ("read_text", "write_text") and "distribution(" not in ast.unparse(call):
            assert names_encoding(call) or "utf-8" in ast.unparse(call), f"{place}: {name_of(call)} without encoding"


def test_every_program_that_is_run_is_read_as_utf_8():
    for place, call in nodes(ast.Call):
        if name_of(call) in ("run", "Popen", "check_output"):
            assert not any(keyword.arg in ("text", "universal_newlines") for keyword in call.keywords), (
                f"{place}: write encoding='utf-8' in place of text=True"
            )


def test_results_reach_a_pipe_as_utf_8_on_a_system_of_another_encoding():
    code = (
        "import sys, typer, kakehashi.cli as cli\n"
        "cli.app.command('say')(lambda: typer.echo('架け橋'))\n"
        "sys.exit(cli.main(['say']))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stdout.decode("utf-8").strip() == "架け橋"


@pytest.mark.parametrize("name", ["*", "*.png"])
def test_git_changes_no_line_end(name):
    rules = dict(line.split(maxsplit=1) for line in (ROOT / ".gitattributes").read_text("utf-8").splitlines()[1:])
    assert rules[name] in ("text=auto eol=lf", "binary")
