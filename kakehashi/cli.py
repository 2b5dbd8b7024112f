"""The `kakehashi` command: one verb, one function, each in `kakehashi.commands`.

The command files import torch and Transformers inside their functions, so that `--help` answers at once.
"""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import typer

from kakehashi import __version__
from kakehashi.commands.average import average
from kakehashi.commands.check import check
from kakehashi.commands.classify_text import classify_text
from kakehashi.commands.embed import embed
from kakehashi.commands.evaluate import evaluate
from kakehashi.commands.export import export
from kakehashi.commands.generate import generate, translate
from kakehashi.commands.publish import publish
from kakehashi.commands.quickstart import quickstart
from kakehashi.commands.recipes import app as recipes_app
from kakehashi.commands.space import space
from kakehashi.commands.tokenizer import app as tokenizer_app
from kakehashi.commands.train import INTERRUPTED_EXIT_CODE, RECIPE_CONTEXT, classify, instruct, pretrain

BAD_INPUT_EXIT_CODE = 2


@dataclass
class GlobalOptions:
    """What stands before the verb and what `main` needs after the verb has failed."""

    traceback: bool = False


app = typer.Typer(
    name="kakehashi",
    help="Train encoder-decoders from raw text, and use them.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def set_global_options(
    context: typer.Context,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show the whole Python traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train encoder-decoders from raw text, and use them."""
    context.ensure_object(GlobalOptions).traceback = traceback
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_TRAIN, _USE = "Train a model", "Use a model"
app.command(rich_help_panel=_TRAIN)(quickstart)
app.add_typer(tokenizer_app, name="tokenizer", rich_help_panel=_TRAIN)
app.add_typer(recipes_app, name="recipes", rich_help_panel=_TRAIN)
app.command(rich_help_panel=_TRAIN, context_settings=RECIPE_CONTEXT)(check)
app.command(rich_help_panel=_TRAIN, context_settings=RECIPE_CONTEXT)(pretrain)
app.command(rich_help_panel=_TRAIN, context_settings=RECIPE_CONTEXT)(instruct)
app.command(rich_help_panel=_TRAIN, context_settings=RECIPE_CONTEXT)(classify)
app.command(rich_help_panel=_TRAIN)(average)
app.command(rich_help_panel=_USE)(generate)
app.command(rich_help_panel=_USE)(translate)
app.command("classify-text", rich_help_panel=_USE)(classify_text)
app.command(rich_help_panel=_USE)(embed)
app.command(rich_help_panel=_USE)(evaluate)
app.command(rich_help_panel=_USE)(export)
app.command(rich_help_panel=_USE)(publish)
app.command(rich_help_panel=_USE)(space)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    A `ValueError` or `OSError` is bad input: one readable line on stderr and exit code 2. Anything else is our
    mistake and keeps its traceback. Of several processes of one run only the first says what all of them meet before
    they join, afterwards each says what it met itself; with `--traceback` each does from the beginning.

    Args:
        arguments: What follows `kakehashi`; `None` takes them from the command line.
    """
    options = GlobalOptions()
    _write_utf8_into_pipes()
    try:
        app(None if arguments is None else list(arguments), prog_name="kakehashi", obj=options)
    except SystemExit as exit_request:
        return _exit_code(exit_request)
    except KeyboardInterrupt:
        return _report_interruption()
    except BrokenPipeError:
        return _stop_writing()
    except (ValueError, OSError) as error:
        if options.traceback:
            raise
        _say(f"error: {describe_error(error)}", by_any=_are_processes_joined())
        return BAD_INPUT_EXIT_CODE
    return 0


def _write_utf8_into_pipes() -> None:
    # A terminal has the encoding it shows. Pipes and files get that of our own files: Windows would give them one
    # that has no word of Japanese.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8")


def describe_error(error: Exception) -> str:
    """Returns the message of `error` on one line, with the file it concerns if there is one."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        # `str(error)` starts with "[Errno 2]", which tells a reader nothing.
        message = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return " ".join(message.split()) or type(error).__name__


def _exit_code(exit_request: SystemExit) -> int:
    cause = exit_request.__context__
    if cause is not None and isinstance(cause.__cause__, KeyboardInterrupt):
        return _report_interruption()
    return exit_request.code if isinstance(exit_request.code, int) else int(exit_request.code is not None)


def _report_interruption() -> int:
    _say("interrupted")
    return INTERRUPTED_EXIT_CODE


def _say(message: str, *, by_any: bool = False) -> None:
    # As `is_first_process` of `kakehashi.training.processes`, which would take seconds to import.
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0 or by_any:
        # Ctrl-C may have ended the reader of a pipe too.
        with suppress(BrokenPipeError):
            print(f"kakehashi: {f'process {rank}: ' if rank else ''}{message}", file=sys.stderr)


def _are_processes_joined() -> bool:
    # Only who trains has imported it.
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _stop_writing() -> int:
    # Whoever read our output has gone (`kakehashi … | head`). Python would complain once more when it flushes
    # stdout at exit, so give it somewhere to write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
