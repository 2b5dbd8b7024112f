"""What the folder of a finished run says: its configuration, recipe, versions and numbers, read and checked once."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open

from kakehashi.training.card_arguments import as_list
from kakehashi.training.documents import looks_like_hub_id
from kakehashi.training.run_files import METRICS_FILE, RECIPE_FILE, VERSIONS_FILE

_RUN_FILES = ("config.json", RECIPE_FILE, VERSIONS_FILE, METRICS_FILE)


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a finished run and what its files say.

    Attributes:
        folder: The folder.
        config: Content of `config.json`.
        recipe: The resolved recipe.
        versions: Packages, commit and hardware.
        metrics: The run's own final numbers.
    """

    folder: Path
    config: dict[str, Any]
    recipe: dict[str, Any]
    versions: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def architecture(self) -> str:
        """Name of the model class."""
        return (self.config.get("architectures") or ["none"])[0]

    @property
    def stage(self) -> str | None:
        """The command that the header of the recipe names, which tells pretraining from instruction tuning."""
        header = (self.folder / RECIPE_FILE).read_text(encoding="utf-8")
        command = re.search(r"^#\s+kakehashi ([a-z]+) ", header, re.MULTILINE)
        return command.group(1) if command else None

    @property
    def start(self) -> str | None:
        """The pretrained weights it began from, as a stranger may see them; None for random ones."""
        model = self.recipe.get("model")
        return self.shown(model) if model else None

    def is_hub_id(self, source: str) -> bool:
        """Whether a source that the recipe names is on the Hub, as `load_rows` tells it, and not on a machine."""
        if source.startswith(".") or not looks_like_hub_id(source):
            return False
        # The recipe may have been written for the folder that the run's folder stands somewhere below.
        return not any((place / source).exists() for place in self.folder.resolve().parents)

    def shown(self, source: str) -> str:
        """Returns a source as a stranger may see it: a Hub id whole, of a local path only the last name."""
        return source if self.is_hub_id(source) else Path(source.replace("\\", "/")).name

    def sources(self, key: str) -> list[str]:
        """Returns what a recipe key that names files holds, as a stranger may see it."""
        return [self.shown(source) for source in as_list(self.recipe.get(key))]


def is_finished_run(folder: str | os.PathLike[str]) -> bool:
    """Returns whether a folder holds everything that a finished run leaves."""
    return not _missing(Path(folder))


def read_finished_run(run_dir: str | os.PathLike[str]) -> FinishedRun:
    """Reads the folder of a finished run.

    Args:
        run_dir: The folder.

    Raises:
        ValueError: If there is no such folder, it is not that of a finished run, or one of its files is damaged.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise ValueError(f"`run_dir` must be the folder of a finished run, but there is no folder {folder}")
    missing = _missing(folder)
    if missing:
        raise ValueError(
            f"`run_dir` must be the folder of a finished run, got {folder} without {', '.join(missing)}: a card is "
            "filled from a run, train one first"
        )
    return FinishedRun(folder, *(_read_mapping(folder / name) for name in _RUN_FILES))


def _missing(folder: Path) -> list[str]:
    missing = [name for name in _RUN_FILES if not (folder / name).is_file()]
    return missing or ([] if any(folder.glob("*.safetensors")) else ["weights"])


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold keys and values, got {type(content).__name__}")
    return content


def count_stored_parameters(folder: Path) -> int:
    """Returns the number of weights stored in a model folder, a tied one once, without loading them.

    Args:
        folder: Folder with one or several `.safetensors` files.
    """
    return sum(math.prod(weights.get_slice(name).get_shape()) for weights, name in _stored_weights(folder))


def fingerprint_weights(folder: Path) -> str:
    """Returns a SHA-256 over names, shapes, number formats and values of the weights in a model folder.

    It is the same however the weights are split over files, and another one as soon as a value changes.

    Args:
        folder: Folder with one or several `.safetensors` files.
    """
    digests = {}
    for weights, name in _stored_weights(folder):
        tensor = weights.get_tensor(name).contiguous()
        digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        # NumPy knows no bfloat16, so the values are read as the bytes they are.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
        digests[name] = digest.hexdigest()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _stored_weights(folder: Path) -> Iterator[tuple[Any, str]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            # `safe_open` has no length and is no mapping: `keys` is all there is.
            for name in weights.keys():  # noqa: SIM118
                yield weights, name
