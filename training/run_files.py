"""Files of a run: how they are written, and the list of them, so that `overwrite` removes these and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kakehashi.training.aside import replace_file

MANIFEST = "run_files.json"
RECIPE_FILE, VERSIONS_FILE, PICTURE = "recipe.yaml", "versions.json", "loss.png"
METRICS_FILE = "metrics.json"
"""Written last: where it stands, the run is complete."""


def listed_files(folder: Path) -> list[str]:
    """Returns the names in the list of a run folder, and that of the list itself if there is one.

    Args:
        folder: Output folder; it need not exist.

    Raises:
        ValueError: If the list is damaged.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return []
    try:
        names = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{manifest} must list the files of the run, but is damaged: {error}; remove it") from error
    # A listed name stands directly in this folder; anything else was not written by a run.
    return [name for name in [*names, MANIFEST] if Path(name).name == name]


def write_list(names: Iterable[str], path: Path) -> None:
    """Writes the list.

    Args:
        names: Files and folders that stand directly in the run folder.
        path: File to write.
    """
    write_json(path, sorted({*names} - {MANIFEST}))


def write_json(path: Path, content: Any) -> None:
    """Writes what a run says of itself, as people can read it.

    Args:
        path: File to write.
        content: What JSON can hold.
    """
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def claim_file(folder: Path, name: str) -> Path:
    """Lists a file that is written while the run goes on, and returns its path.

    Args:
        folder: Output folder.
        name: The file's name, or that of a folder.
    """
    names = listed_files(folder)
    if name not in names:
        replace_file(folder / MANIFEST, lambda path: write_list([*names, name], path))
    return folder / name


def put_file(folder: Path, name: str, write: Callable[[Path], object]) -> None:
    """Lists a file and writes it anew, as `replace_file`.

    Args:
        folder: Output folder.
        name: The file's name.
        write: Writes the content to the path it is given.

    Raises:
        OSError: If it cannot be written; the old file stays.
    """
    replace_file(claim_file(folder, name), write)
