"""The accelerate configurations that come with the package: listed, found and copied by name as recipes are."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def list_configs() -> dict[str, str]:
    """Returns the name of every shipped configuration with the purpose that its first comment line states."""
    entries = sorted(resources.files(__name__).iterdir(), key=lambda entry: entry.name)
    return {
        entry.name: entry.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
        for entry in entries
        if entry.name.endswith(".yaml")
    }


def find_config(name: str) -> Path | None:
    """Returns the path of a shipped configuration, `.yaml` left out or not, or None if there is none of that name."""
    file_name = name if name.endswith(".yaml") else f"{name}.yaml"
    return Path(str(resources.files(__name__) / file_name)) if file_name in list_configs() else None
