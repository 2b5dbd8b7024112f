"""One model from several that were tuned from the same one: the mean of their weights.

    from one model   seed 1   .2 .9      mean   .3 .8
                     seed 2   .4 .7

Runs that differ in seed, dropout or length end in different places of the same valley of the loss, and the place
between them is often lower than each, at the cost of a single model when it is used. Models that began from different
weights have no valley in common: the mean of theirs answers nothing.

Source: Wortsman et al., "Model soups", 2022, the uniform one. Theirs are of one kind of model and task, as here.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.tokenization import save_tokenizer
from kakehashi.training.aside import fill_new_folder
from kakehashi.training.console import notify
from kakehashi.training.finished_run import FinishedRun, is_finished_run, read_finished_run
from kakehashi.training.inference import load_for_export
from kakehashi.training.run_files import METRICS_FILE, RECIPE_FILE, VERSIONS_FILE, write_json

NEAR: Final = 0.9
"""Cosine below which the weights of two models are said to be far apart; runs from one model had .97 and more."""

# How a model was trained or is stored changes nothing in what its weights compute.
_MAY_DIFFER = {
    *("dropout", "attention_dropout", "classifier_dropout", "label_smoothing", "z_loss_weight", "chunked_loss"),
    *("dtype", "transformers_version", "_name_or_path", "auto_map", "use_cache"),
}

# What the card of a mean says of its data must hold for each run.
_SAME_ON_A_CARD = (
    *("train_files", "validation_files", "test_files", "validation_split"),
    *("license", "language", "datasets", "data_revision", "data_license"),
)


def average_models(models: Sequence[str | Path], output_dir: Path) -> dict[str, float]:
    """Writes the mean of the weights of several models as a model folder of its own.

    The mean is computed in float32 and stored in the number format of the first model, whose configuration and
    tokenizer go along. Memory holds three models at a time, however many there are. Where all are folders of finished
    runs on the same data, the mean has the files of a finished run as well and can be published: recipe and versions
    of the first run, and in `metrics.json` which runs they were, their time and their tokens together.

    Args:
        models: Folders or Hub ids of models with the same configuration and vocabulary, at least two.
        output_dir: Folder to make; it must not exist or be empty.

    Returns:
        For each model but the first the cosine between its weights and those of the first, over all of them: 1 the
        same, 0 unrelated. A line on stderr names those below `NEAR`, which may not have begun from the same model.

    Raises:
        ValueError: If there are fewer than two models, one is not that of kakehashi or cannot be read, two differ in
            kind, configuration, labels or vocabulary, or `output_dir` holds something.
        OSError: If the Hub cannot be reached.
    """
    if len(models) < 2:
        raise ValueError(f"`models` must be at least two, got {len(models)}")
    cosines = {}
    with fill_new_folder(output_dir) as aside:
        first, tokenizer = load_for_export(models[0])
        dtype = first.dtype
        average = AveragedModel(first.float())
        average.update_parameters(first)
        for name in models[1:]:
            other, its_tokenizer = load_for_export(name)
            _require_same(first, other, str(models[0]), str(name))
            _require_same_vocabulary(tokenizer, its_tokenizer, str(models[0]), str(name))
            average.update_parameters(other.float())
            cosines[str(name)] = cosine_of_weights(first, other)
            # Or it would stay until the next one has been read.
            del other
        mean: Any = average.module
        mean.to(dtype).save_pretrained(aside)
        save_tokenizer(tokenizer, aside)
        if all(is_finished_run(name) for name in models):
            _leave_run_files([read_finished_run(name) for name in models], aside)
    for name, cosine in cosines.items():
        if cosine < NEAR:
            notify(
                f"the weights of {name} are far from those of {models[0]}, cosine {cosine:.2f}: if the two did not "
                "begin from the same model, their mean knows less than each; measure it"
            )
    return cosines


def cosine_of_weights(first: PreTrainedModel, second: PreTrainedModel) -> float:
    """Returns the cosine between all weights of two models of the same shape, each model as one long vector."""
    pairs = [
        (one.detach().float(), other.detach().float())
        for one, other in zip(first.parameters(), second.parameters(), strict=True)
    ]
    product = sum(float(torch.sum(one * other)) for one, other in pairs)
    norms = [math.sqrt(sum(float(torch.sum(pair[side] ** 2)) for pair in pairs)) for side in (0, 1)]
    return product / (norms[0] * norms[1])


def _leave_run_files(runs: Sequence[FinishedRun], folder: Path) -> None:
    """Writes the files that a card is filled from, if one card can tell of all runs."""
    for key in _SAME_ON_A_CARD:
        values = {json.dumps(run.recipe.get(key)) for run in runs}
        if len(values) > 1:
            notify(f"the mean cannot be published: its runs differ in `{key}`, {' and '.join(sorted(values))}")
            return
    names = [run.folder.resolve().name for run in runs]
    recipe = (runs[0].folder / RECIPE_FILE).read_text(encoding="utf-8")
    header = f"# The weights here are the mean of those of the runs {', '.join(names)}; "
    header += "this recipe made the first of them.\n"
    (folder / RECIPE_FILE).write_text(header + recipe, encoding="utf-8")
    shutil.copyfile(runs[0].folder / VERSIONS_FILE, folder / VERSIONS_FILE)
    metrics: dict[str, Any] = {"averaged_runs": names}
    if "part" in runs[0].metrics:
        metrics["part"] = runs[0].metrics["part"]
    for key in ("train_runtime", "num_tokens_seen"):
        if all(key in run.metrics for run in runs):
            metrics[key] = sum(run.metrics[key] for run in runs)
    write_json(folder / METRICS_FILE, metrics)


def _require_same(first: PreTrainedModel, other: PreTrainedModel, first_name: str, other_name: str) -> None:
    if type(other) is not type(first):
        raise ValueError(
            f"`models` must be of one kind, but {other_name} is a {type(other).__name__} and {first_name} a "
            f"{type(first).__name__}"
        )
    expected, found = first.config.to_dict(), other.config.to_dict()
    for key in sorted({*expected, *found} - _MAY_DIFFER):
        if expected.get(key) != found.get(key):
            raise ValueError(
                f"`models` must have one configuration, but `{key}` of {other_name} is {found.get(key)!r} and that of "
                f"{first_name} {expected.get(key)!r}"
            )


def _require_same_vocabulary(
    first: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, first_name: str, other_name: str
) -> None:
    if first.get_vocab() != other.get_vocab():
        raise ValueError(f"`models` must have one vocabulary, but that of {other_name} is not that of {first_name}")
