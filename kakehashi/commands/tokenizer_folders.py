"""Folders that `kakehashi tokenizer` writes: refused when they hold something, complete as soon as they are there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

TokenizerName = Annotated[str, typer.Option("--tokenizer", "-t", help="Tokenizer or model folder, or a Hub id.")]
OutputDir = Annotated[Path, typer.Option(help="Folder to make; it must not exist or be empty.")]


def require_free_folder(folder: Path) -> None:
    """Checks that a folder can be made without losing anything.

    Raises:
        ValueError: if it is a file or holds files.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`--output-dir` must be a folder, but {folder} is a file.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"`--output-dir` must be new or empty, but {folder} holds files: name another or empty it.")


@contextmanager
def fill_new_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to write into, which becomes `folder` when all is written and vanishes if that fails."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        written = aside / folder.name
        # Made by `mkdir`, not by `mkdtemp`: it gets the usual permissions.
        written.mkdir()
        yield written
        if folder.exists():
            # Windows moves nothing onto a folder, not even onto an empty one.
            folder.rmdir()
        os.replace(written, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
