"""Files and folders that are complete as soon as they are there: written aside, then given their name in one step."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WRITING_PREFIX = ".writing-"
"""How the folders begin in which something is being written."""


def require_free_folder(output_dir: Path) -> None:
    """Checks that a folder can be made without losing anything.

    Raises:
        ValueError: If there is a file in its place, or it holds something.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"`output_dir` must be a folder, got the file {output_dir}")
    if output_dir.is_dir() and any(output_dir.iterdir()):
        raise ValueError(
            f"`output_dir` must be empty or new, but {output_dir} holds something: choose another or empty it"
        )


@contextmanager
def fill_new_folder(output_dir: Path) -> Iterator[Path]:
    """Yields a folder to write to, which becomes `output_dir` when all is written; of a failure nothing is left.

    Args:
        output_dir: The folder to make; it must not exist or be empty.

    Raises:
        ValueError: As `require_free_folder`.
    """
    require_free_folder(output_dir)
    place = output_dir.resolve()
    made = [parent for parent in place.parents if not parent.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        # Made by `mkdir`, not by `mkdtemp`: it gets the usual permissions.
        written = aside / place.name
        written.mkdir()
        yield written
        if place.exists():
            # Windows moves nothing onto a folder, not even onto an empty one.
            place.rmdir()
        os.replace(written, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for parent in made:
            # Only an empty one goes.
            with suppress(OSError):
                parent.rmdir()


def require_writable_file(name: str, path: Path) -> None:
    """Checks that a file can be written, before anyone waits for what is to be in it.

    Args:
        name: Name of the argument, for the message.
        path: The file; folders above it may have to be made.

    Raises:
        ValueError: If it is a folder, or lies where nothing can be written.
    """
    place = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not place.is_dir() or not os.access(place, os.W_OK):
        raise ValueError(f"`{name}` must be a file in a folder that can be written to, got {path}")


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file anew: whoever looks sees it as it was or as it is, never half of it.

    Args:
        path: The file, in a folder that is there.
        write: Writes the content to the path it is given.

    Raises:
        OSError: If it cannot be written; the old file stays.
    """
    # A folder under this name is known for what it is, should the process be killed.
    aside = Path(tempfile.mkdtemp(prefix=WRITING_PREFIX, dir=path.parent))
    try:
        write(aside / path.name)
        bring_to_disk(aside)
        os.replace(aside / path.name, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def bring_to_disk(folder: Path) -> None:
    """Returns once every file below a folder, and its names, would outlast a power cut.

    Args:
        folder: Searched to the bottom.

    Raises:
        OSError: If the disk does not take it.
    """
    for inner, _, names in os.walk(folder, topdown=False):
        for name in names:
            # Windows brings only files open for writing to the disk.
            with open(os.path.join(inner, name), "r+b") as file:
                os.fsync(file.fileno())
        sync_folder(inner)


def sync_folder(folder: str | Path) -> None:
    """Brings the names in a folder to the disk, where the system can."""
    # Windows opens no folders.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no such request.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
