"""One recipe several times: on every fold of the rows, or on a few rows drawn anew, with the spread of the results.

    folds: 3                        shots: 2, seeds: 3
    rows    a b c d e f             rows    a b c d e f
    fold-1  . . x x x x             seed-1  x . x . . .
    fold-2  x x . . x x             seed-2  . x . . x .
    fold-3  x x x x . .             seed-3  . . . x . x

A cross is a row to train on; a dot is a row to test on, where the recipe has no `test_files`. Every part is a complete
run folder of its own, which `--resume` keeps.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import KFold, StratifiedKFold
from transformers import Seq2SeqTrainingArguments

from kakehashi.training.arguments import DEFAULT_SEEDS, ClassifyArguments
from kakehashi.training.checkpoints import list_checkpoints, remove_leftovers
from kakehashi.training.console import notify
from kakehashi.training.documents import require_columns
from kakehashi.training.early_stopping import settle_stopping
from kakehashi.training.folder_lock import lock_folder
from kakehashi.training.label_names import find_class_names, find_problem_type
from kakehashi.training.recipe import resolved_recipe, write_recipe
from kakehashi.training.run_files import METRICS_FILE, RECIPE_FILE, claim_file, listed_files, put_file, write_json
from kakehashi.training.run_folder import (
    RESUME_NEWEST,
    finished_metrics,
    holds_only_remains,
    no_empty_folder_left,
    open_run_folder,
    output_folder,
)
from kakehashi.training.splits import Splits, load_splits

SUMMARY_FILE = "summary.json"
# Measured on the machine, not on the rows.
_NO_SCORES = ("_runtime", "_per_second")
# What may change between the parts: `seeds` adds some. Too little memory changes the two of the batch, and their
# product, the examples of a step, stays the same.
_FREE_KEYS = {"output_dir", "seeds", "per_device_train_batch_size", "gradient_accumulation_steps"}

TrainPart: TypeAlias = Callable[[ClassifyArguments, Seq2SeqTrainingArguments, Splits, list[str]], dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """One of the runs.

    Attributes:
        name: Name of its folder, such as `fold-1`.
        seed: Seeds the run.
        splits: Its rows.
    """

    name: str
    seed: int
    splits: Splits


def is_repeated(arguments: ClassifyArguments) -> bool:
    """Returns whether a recipe asks for several runs."""
    return arguments.folds is not None or arguments.shots is not None


def run_repeats(
    arguments: ClassifyArguments, training_arguments: Seq2SeqTrainingArguments, train_part: TrainPart
) -> dict[str, Any]:
    """Runs all parts one after the other and writes the mean and the spread of their numbers to `summary.json`.

    Args:
        arguments: `folds`, or `shots` and `seeds`.
        training_arguments: Trainer's arguments; the folders of the parts stand in `output_dir`.
        train_part: Trains and measures on given rows and names of classes, with arguments whose `output_dir` is the
            part's.

    Returns:
        The mean and the standard deviation of each score of the parts.

    Raises:
        ValueError: If the rows cannot be divided so, or a part kept by `--resume` had another recipe.
    """
    if training_arguments.world_size > 1:
        raise ValueError(f"`folds` and `shots` run in one process, got {training_arguments.world_size}")
    folder = output_folder(training_arguments)
    # Before anything is compared: the recipes of the parts have what this fills in.
    settle_stopping(arguments, training_arguments)
    resumes = training_arguments.resume_from_checkpoint is not None
    if resumes:
        _open_to_resume(folder)
    else:
        open_run_folder(arguments, training_arguments)
    splits = load_splits(arguments, training_arguments.seed)
    require_columns(splits.train, [arguments.text_column, arguments.label_column], arguments.train_files or [])
    # Of all rows: a fold may be without the only row of a label.
    names = find_class_names(splits.rows_as_read, arguments.label_column)
    parts = list(cut_parts(splits, arguments, training_arguments.seed))
    recipe = resolved_recipe(arguments, training_arguments)
    _require_same_recipe(folder, recipe)
    measured = {}
    # A typo in the recipe leaves nothing behind, so that the corrected command may begin.
    with nullcontext() if resumes else _nothing_left_before_the_first_part(folder):
        put_file(folder, RECIPE_FILE, lambda path: write_recipe(recipe, "classify", path))
        for part in parts:
            tested = 0 if part.splits.test is None else len(part.splits.test)
            notify(f"{part.name} of {len(parts)}: {len(part.splits.train):,} rows to train on, {tested:,} to test on")
            settings = _settings_of(part, arguments, training_arguments)
            kept = _kept_metrics(settings[1]) if resumes else None
            if kept is not None:
                notify(f"{part.name} is complete already, kept")
            with no_empty_folder_left(claim_file(folder, part.name)):
                measured[part.name] = train_part(*settings, part.splits, names) if kept is None else kept
            # Written after each part, so that an interruption leaves what is known.
            summary = summarize(measured)
            content = {"parts": len(measured), "of": len(parts), "scores": summary}
            put_file(folder, SUMMARY_FILE, partial(write_json, content=content))
    show_summary(summary, f"{len(parts)} runs of {folder}")
    return {f"{name}_{key}": value[key] for name, value in summary.items() for key in ("mean", "std")}


def _open_to_resume(folder: Path) -> None:
    """Makes the folder of all parts ready to go on in.

    Raises:
        ValueError: If it holds neither parts nor what a run leaves that is killed before the first one.
    """
    if not (folder / RECIPE_FILE).is_file() and not holds_only_remains(folder):
        raise ValueError(f"`--resume` needs the parts of an earlier run in `output_dir`, got none in {folder}")
    lock_folder(folder)
    remove_leftovers(folder)


def _require_same_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Raises a ValueError if a part in the folder is complete, or has a checkpoint, and had another recipe."""
    parts = [folder / name for name in listed_files(folder)]
    if not any((part / METRICS_FILE).is_file() or list_checkpoints(part) for part in parts):
        return
    saved = yaml.safe_load((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    for key in sorted({*saved, *recipe} - _FREE_KEYS):
        if saved.get(key) != recipe.get(key):
            raise ValueError(
                f"`{key}` must be that of the parts that are kept, {saved.get(key)!r} in {folder}, got "
                f"{recipe.get(key)!r}; add --overwrite true in place of --resume to begin again"
            )


@contextmanager
def _nothing_left_before_the_first_part(folder: Path) -> Iterator[None]:
    """Removes what was written if the first part fails before it has anything to keep."""
    try:
        yield
    except BaseException:
        written = [folder / name for name in listed_files(folder)]
        if not any(path.is_dir() for path in written):
            for path in written:
                path.unlink(missing_ok=True)
        raise


def cut_parts(splits: Splits, arguments: ClassifyArguments, seed: int) -> Iterator[Part]:
    """Yields the parts that a recipe asks for.

    Args:
        splits: All rows.
        arguments: `folds`, or `shots` and `seeds`; the columns.
        seed: Decides which rows come into which part.

    Raises:
        ValueError: If the rows cannot be divided so.
    """
    if arguments.folds is not None:
        if splits.test is not None:
            raise ValueError(
                "`test_files` must be left out with `folds`: each fold is tested on the rows left out of it"
            )
        yield from _cut_folds(splits, arguments, seed)
        return
    for number in range(1, (arguments.seeds or DEFAULT_SEEDS) + 1):
        yield _draw_shots(splits, arguments, seed, number)


def _cut_folds(splits: Splits, arguments: ClassifyArguments, seed: int) -> Iterator[Part]:
    """Yields each fold; where a row has one label, every fold has about the same share of each."""
    rows, count = splits.train, arguments.folds
    assert count is not None
    is_single = find_problem_type(rows, arguments.label_column) == "single_label_classification"
    cutter = (StratifiedKFold if is_single else KFold)(count, shuffle=True, random_state=seed)
    labels = [str(label) for label in rows[arguments.label_column]] if is_single else None
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            folds = list(cutter.split(np.arange(len(rows)), labels))
    except ValueError as error:
        raise ValueError(f"`folds` must be fewer for {len(rows)} rows, got {count}: {error}") from error
    if told:
        notify(f"some labels have fewer rows than there are folds ({count}); not every fold is tested on them")
    for number, (train, test) in enumerate(folds, 1):
        name = f"fold-{number}"
        itself = _tell_of(name, len(train), len(rows), folds=count, seed=seed)
        part = Splits(rows.select(train), splits.validation, rows.select(test), splits.rows_as_read, itself)
        yield Part(name, seed, part)


def _draw_shots(splits: Splits, arguments: ClassifyArguments, seed: int, number: int) -> Part:
    """Returns a part that trains on a few rows of each label; a label with too few rows gives all it has."""
    rows, shots = splits.train, arguments.shots
    assert shots is not None
    if find_problem_type(rows, arguments.label_column) != "single_label_classification":
        raise ValueError(f"`shots` needs rows with one label each, got other labels in `{arguments.label_column}`")
    labels = np.array([str(label) for label in rows[arguments.label_column]])
    generator = np.random.default_rng([seed, number])
    drawn = [generator.permutation(np.flatnonzero(labels == label))[:shots] for label in np.unique(labels)]
    train = np.sort(np.concatenate(drawn))
    test = splits.test if splits.test is not None else rows.select(np.setdiff1d(np.arange(len(rows)), train))
    if len(test) == 0:
        raise ValueError(
            f"`shots` must leave rows to test on, or `test_files` be given, got {shots} of {len(rows)} rows"
        )
    name = f"seed-{number}"
    itself = _tell_of(name, len(train), len(rows), shots=shots, seeds=arguments.seeds or DEFAULT_SEEDS, seed=seed)
    part = Splits(rows.select(train), splits.validation, test, splits.rows_as_read, itself)
    return Part(name, seed + number - 1, part)


def _tell_of(name: str, train_rows: int, of_rows: int, **keys: int) -> dict[str, Any]:
    """Returns what a part says of itself, with the keys that, given beside its own recipe, make all parts again."""
    return {"name": name, "train_rows": train_rows, "of_rows": of_rows, "keys": keys}


def _settings_of(
    part: Part, arguments: ClassifyArguments, training_arguments: Seq2SeqTrainingArguments
) -> tuple[ClassifyArguments, Seq2SeqTrainingArguments]:
    """Returns the arguments of a part: those of a single run in a folder of its own."""
    own = copy.copy(training_arguments)
    own.output_dir = str(output_folder(training_arguments) / part.name)
    own.seed, own.resume_from_checkpoint = part.seed, None
    return dataclasses.replace(arguments, folds=None, shots=None, seeds=None, overwrite=False), own


def _kept_metrics(training_arguments: Seq2SeqTrainingArguments) -> dict[str, Any] | None:
    """Returns the numbers of a part that is complete, or None, with the arguments set to go on with it."""
    folder = output_folder(training_arguments)
    metrics = finished_metrics(folder)
    if metrics is None and list_checkpoints(folder):
        training_arguments.resume_from_checkpoint = RESUME_NEWEST
    elif metrics is None and folder.is_dir():
        shutil.rmtree(folder)
    return metrics


def summarize(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the mean and the spread of every score.

    Args:
        measured: `metrics.json` of each part, by its name.

    Returns:
        Score, such as `test_accuracy` → `mean`, `std` (of a sample: divided by one less than the number of parts; 0
        for one part) and `values` of the parts in order.
    """
    first = next(iter(measured.values()))
    names = [name for name in first if name.startswith(("test_", "eval_")) and not name.endswith(_NO_SCORES)]
    summary = {}
    for name in names:
        values = [float(metrics[name]) for metrics in measured.values()]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[name] = {"mean": statistics.fmean(values), "std": spread, "values": values}
    return summary


def show_summary(summary: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Prints a table of the scores to stderr: mean ± standard deviation, and each part.

    Args:
        summary: From `summarize`.
        title: What stands above it.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("score")
    table.add_column("mean ± std", justify="right")
    table.add_column("parts", justify="right")
    for name, score in summary.items():
        parts = "  ".join(f"{value:.4f}" for value in score["values"])
        table.add_row(name, f"{score['mean']:.4f} ± {score['std']:.4f}", parts)
    Console(stderr=True).print(table)
