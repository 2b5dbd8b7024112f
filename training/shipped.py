"""The YAML files that come with a package: listed and found by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def list_shipped(package: str) -> dict[str, str]:
    """Returns the name of every shipped file with the purpose that its first comment line states.

    Args:
        package: Full name of the package that holds them.
    """
    entries = sorted(resources.files(package).iterdir(), key=lambda entry: entry.name)
    return {
        entry.name: entry.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
        for entry in entries
        if entry.name.endswith(".yaml")
    }


def find_shipped(package: str, name: str) -> Path | None:
    """Returns the path of a shipped file, `.yaml` left out or not, or None if there is none of that name.

    Args:
        package: As for `list_shipped`.
        name: Name of the file.
    """
    file_name = name if name.endswith(".yaml") else f"{name}.yaml"
    return Path(str(resources.files(package) / file_name)) if file_name in list_shipped(package) else None
