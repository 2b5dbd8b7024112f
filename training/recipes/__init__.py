"""The recipes that come with the package: listed, found and copied by name."""

from __future__ import annotations

from pathlib import Path

from kakehashi.training.shipped import find_shipped, list_shipped


def list_recipes() -> dict[str, str]:
    """Returns the name of every shipped recipe with its purpose."""
    return list_shipped(__name__)


def find_recipe(name: str) -> Path | None:
    """Returns the path of a shipped recipe, `.yaml` left out or not, or None if there is none of that name."""
    return find_shipped(__name__, name)


def copy_recipe(name: str, destination: Path) -> Path:
    """Writes a shipped recipe to a file or into a directory.

    Args:
        name: Name as `list_recipes` gives it; `.yaml` may be left out.
        destination: File to create, or an existing directory.

    Returns:
        The file written.

    Raises:
        ValueError: If no recipe has that name.
        FileExistsError: If the file exists already; it may hold its reader's changes.
    """
    shipped = find_recipe(name)
    if shipped is None:
        raise ValueError(f"`name` must be one of {', '.join(list_recipes())}, got {name!r}")
    target = destination / shipped.name if destination.is_dir() else destination
    with target.open("x", encoding="utf-8") as stream:
        stream.write(shipped.read_text(encoding="utf-8"))
    return target
