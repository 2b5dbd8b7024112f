"""`evaluations.json`: what `kakehashi evaluate` measured on the weights of a run, kept beside them for the card."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kakehashi.training.finished_run import fingerprint_weights
from kakehashi.training.run_files import put_file, write_json

EVALUATIONS_FILE = "evaluations.json"


@dataclass(frozen=True)
class Measurement:
    """One evaluation of the weights in a folder.

    Attributes:
        task: `classification`, `generation`, `perplexity` or `fill-mask`.
        data: Names of the files or data sets, without folders.
        rows: Rows of them that were used.
        scores: Name → value.
        target_language: Language translated into; None where nothing was translated.
        settings: What was asked and how the answers were made, such as `label_column` and `num_beams`.
        date: Day of the measurement, in UTC.
        rows_sha256: What tells these rows from others in files of the same names; None where nobody asks.
    """

    task: str
    data: list[str]
    rows: int
    scores: dict[str, float]
    target_language: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).date().isoformat())
    rows_sha256: str | None = None

    @property
    def subject(self) -> tuple[Any, ...]:
        """What was measured; measuring it again replaces the earlier numbers."""
        settings = json.dumps(self.settings, sort_keys=True)
        return self.task, tuple(self.data), self.target_language, self.rows, settings, self.rows_sha256


def fingerprint_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns a SHA-256 over the rows that something is measured on, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def keep_measurement(folder: Path, measurement: Measurement) -> None:
    """Adds a measurement to those of a run, in place of an earlier one of the same subject.

    Args:
        folder: The run's folder; what was measured on other weights that lay there is dropped.
        measurement: What was measured on its weights.

    Raises:
        ValueError: If the file of the measurements or the list of the run's files is damaged.
        OSError: If it cannot be written; the old file stays.
    """
    kept = [each for each in read_measurements(folder) if each.subject != measurement.subject]
    content = {
        "weights_sha256": fingerprint_weights(folder),
        "measurements": [dataclasses.asdict(each) for each in (*kept, measurement)],
    }
    put_file(folder, EVALUATIONS_FILE, lambda path: write_json(path, content))


def read_measurements(folder: Path) -> list[Measurement]:
    """Returns what was measured on the weights that lie in a folder now; nothing that was measured on others.

    Args:
        folder: Folder of a run.

    Raises:
        ValueError: If the file of the measurements is damaged.
    """
    path = folder / EVALUATIONS_FILE
    if not path.is_file():
        return []
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        measurements = [Measurement(**each) for each in content["measurements"]]
        fingerprint = content["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error!r}; remove it and evaluate again") from error
    return measurements if fingerprint == fingerprint_weights(folder) else []
