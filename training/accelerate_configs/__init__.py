"""The accelerate configurations that come with the package: listed and found by name as recipes are."""

from __future__ import annotations

from pathlib import Path

from kakehashi.training.shipped import find_shipped, list_shipped


def list_configs() -> dict[str, str]:
    """Returns the name of every shipped configuration with its purpose."""
    return list_shipped(__name__)


def find_config(name: str) -> Path | None:
    """Returns the path of a shipped configuration, `.yaml` left out or not, or None if there is none of that name."""
    return find_shipped(__name__, name)
