"""One run at a time in a folder: two that write there at once would remove each other's checkpoints."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows knows no such locks.
    fcntl = None  # type: ignore[assignment]

# The folders that this process holds, each with its open descriptor.
_held: dict[Path, int] = {}


@contextmanager
def holding_folder(folder: Path) -> Iterator[None]:
    """Holds a folder for as long as something runs inside.

    Args:
        folder: Output folder, which exists. One that this process holds already stays held.
    """
    is_taken = lock_folder(folder)
    try:
        yield
    finally:
        if is_taken:
            unlock_folder(folder)


def lock_folder(folder: Path) -> bool:
    """Holds a folder until `unlock_folder` or the end of this process; nothing is written into it.

    Where the system or its file system knows no locks, nothing is held.

    Args:
        folder: Output folder, which exists. One that this process holds already stays as it is.

    Returns:
        Whether this call has taken it.

    Raises:
        ValueError: If another process holds it.
    """
    place = folder.resolve()
    if fcntl is None or place in _held:
        return False
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
            # Network file systems may lock files only, or nothing.
            return False
        raise ValueError(
            f"`output_dir` must be used by one run at a time, got {folder}, in use by another one: wait for its end, "
            "stop it, or choose another folder"
        ) from error
    _held[place] = descriptor
    return True


def unlock_folder(folder: Path) -> None:
    """Lets go of a folder that this process may hold.

    Args:
        folder: Output folder; it need not exist any more.
    """
    descriptor = _held.pop(folder.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)


def _let_go_of_all() -> None:
    """Leaves the folders to the parent alone: a worker that outlives it would keep the next run from beginning."""
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go_of_all)
