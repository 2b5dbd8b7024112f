"""Which checkpoint of a run folder is complete, and what to do with one that is not."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from kakehashi.training.console import notify

# Trainer writes this file last.
_STATE_FILE = "trainer_state.json"
_TORCH_FILES = ("optimizer.pt", "scheduler.pt")


def list_checkpoints(run_folder: Path) -> list[Path]:
    """Returns the checkpoint folders of a run, newest first, complete or not."""
    found = [(int(match[1]), path) for path in run_folder.glob("checkpoint-*") if (match := _step(path)) is not None]
    return [path for _, path in sorted(found, reverse=True)]


def _step(path: Path) -> re.Match[str] | None:
    return re.fullmatch(r"checkpoint-(\d+)", path.name) if path.is_dir() else None


def find_damage(checkpoint: Path) -> str | None:
    """Returns what makes a checkpoint unusable, or None if it is complete.

    Every file that a resumption reads is opened: sizes and headers are checked, not each number.

    Args:
        checkpoint: A folder that Trainer wrote, possibly cut off at any moment.
    """
    try:
        json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{_STATE_FILE} is missing"
    except (OSError, ValueError):
        return f"{_STATE_FILE} is damaged"
    weights = sorted(checkpoint.glob("*.safetensors"))
    if not weights:
        return "it holds no weights"
    for file in weights:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError):
            return f"{file.name} is cut off or damaged"
    for name in _TORCH_FILES:
        # A torch file is a zip archive, whose directory stands at its end.
        if not zipfile.is_zipfile(checkpoint / name):
            return f"{name} is missing, cut off or damaged"
    return None


def newest_checkpoint(run_folder: Path) -> Path | None:
    """Returns the newest complete checkpoint of a run, or None if it saved none.

    Args:
        run_folder: Output folder of the run. Newer, damaged checkpoints are skipped with one line each.

    Raises:
        ValueError: If there are checkpoints and none is usable.
    """
    damages: list[str] = []
    for checkpoint in list_checkpoints(run_folder):
        damage = find_damage(checkpoint)
        if damage is None:
            for line in damages:
                notify(f"{line}; skipped, going on from {checkpoint.name}")
            return checkpoint
        damages.append(f"{checkpoint}: {damage}")
    if damages:
        raise ValueError(f"no checkpoint in {run_folder} is usable: {'; '.join(damages)}")
    return None
