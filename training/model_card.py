"""The card of a trained model, filled from what its run left behind and from nothing typed by hand."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from kakehashi.training.aside import replace_file
from kakehashi.training.card_arguments import as_list, describe_data_sets
from kakehashi.training.card_heads import CardHead, card_head, list_described_architectures
from kakehashi.training.evaluations import Measurement, read_measurements
from kakehashi.training.finished_run import FinishedRun, count_stored_parameters, read_finished_run
from kakehashi.training.run_files import PICTURE, listed_files

# Recipe keys that the table of data shows, by the role they have there.
_DATA_KEYS = {"training": "train_files", "validation": "validation_files", "test": "test_files"}
# Recipe keys that the card shows elsewhere.
_KEYS_SHOWN_ELSEWHERE = (
    *("model", "tokenizer", *_DATA_KEYS.values()),
    *("license", "language", "datasets", "data_revision", "data_license"),
)
# Recipe keys that say where a run was written to, and a secret.
_KEYS_OF_ONE_MACHINE = ("output_dir", "logging_dir", "run_name", "hub_token", "hub_model_id", "resume_from_checkpoint")
# Facts of the machine and the commit; `command` and `platform` would tell folder and host names.
_ENVIRONMENT_KEYS_LEFT_OUT = ("command", "platform")
_TASKS = {"classification": "text-classification", "perplexity": "text-generation", "fill-mask": "fill-mask"}
# Our names of measures → what the Hub calls the metric.
_METRIC_TYPES = {"macro_f1": "f1"}
_SECONDS_OF_AN_HOUR = 3600


def write_model_card(
    run_dir: str | os.PathLike[str],
    *,
    name: str | None = None,
    license: str | None = None,
    destination: Path | None = None,
) -> Path:
    """Writes the `README.md` of a finished run, from its recipe, versions, metrics, evaluations and weights.

    Args:
        run_dir: Folder of a finished run.
        name: Name of the model on the Hub, such as `user/name`. `None` means the folder's name.
        license: Licence of the weights, as the Hub spells it; `None` takes the recipe's `license`.
        destination: File to write; `None` means `README.md` in the folder.

    Returns:
        The file written.

    Raises:
        ValueError: If the folder is not that of a finished run, or its model is of a class without a card.
    """
    run = read_finished_run(run_dir)
    card = build_model_card(run, name or run.folder.resolve().name, license or run.recipe.get("license"))
    destination = destination or run.folder / "README.md"
    replace_file(destination, lambda aside: aside.write_text(str(card), encoding="utf-8"))
    return destination


def build_model_card(run: FinishedRun, name: str, license: str | None) -> ModelCard:
    """Returns the card of a finished run.

    Args:
        run: What the run left.
        name: Name of the model on the Hub, such as `user/name`.
        license: Licence of the weights, as the Hub spells it; `None` makes the card say nothing of it.

    Raises:
        ValueError: If its model is of a class without a card, or the file of its evaluations is damaged.
    """
    head = card_head(run.config, run.stage)
    if head is None:
        known = ", ".join(list_described_architectures())
        raise ValueError(f"the model in {run.folder} must be one of {known}, got {run.architecture}")
    measurements = read_measurements(run.folder)
    count = count_stored_parameters(run.folder)
    languages = as_list(run.recipe.get("language"))
    return ModelCard.from_template(
        _card_data(run, head, name, license, measurements),
        template_str=resources.files("kakehashi.model_cards").joinpath("template.md").read_text(encoding="utf-8"),
        cell=cell,
        code=code,
        name=name,
        license=license,
        is_japanese="ja" in languages,
        summary=f"A `{run.architecture}` of {count:,} parameters, made by kakehashi.",
        head=head,
        start=run.start,
        usage=head.usage(name),
        data_sets=describe_data_sets(run.recipe, run.sources("train_files")),
        data=_describe_files(run),
        training=_describe_start(run),
        arguments=_chosen_arguments(run),
        measurements=[_measurement_row(each) for each in measurements],
        is_tested=any(key.startswith("test_") for key in run.metrics),
        metrics={key: _format_number(value) for key, value in run.metrics.items() if _is_number(value)},
        environment={key.replace("_", " "): value for key, value in public_versions(run).items()},
        plots=[{"title": _title(plot), "file": plot.name} for plot in list_plots(run.folder)],
    )


def list_plots(folder: Path) -> list[Path]:
    """Returns the pictures that a run drew, the loss curve first."""
    names = {PICTURE, *listed_files(folder)}
    plots = [folder / name for name in names if name.endswith(".png") and (folder / name).is_file()]
    return sorted(plots, key=lambda plot: (plot.name != PICTURE, plot.name))


def _title(plot: Path) -> str:
    return "Loss during training" if plot.name == PICTURE else plot.stem.replace("_", " ").capitalize()


def _card_data(
    run: FinishedRun, head: CardHead, name: str, license: str | None, measurements: Sequence[Measurement]
) -> ModelCardData:
    """Returns the metadata that the Hub reads; what only this machine knows, such as a local folder, stays out."""
    start = run.recipe.get("model")
    named = as_list(run.recipe.get("datasets")) or as_list(run.recipe.get("train_files"))
    results = [result for each in measurements for result in to_eval_results(each)]
    return ModelCardData(
        model_name=name,
        language=as_list(run.recipe.get("language")) or None,
        license=license,
        library_name="transformers",
        pipeline_tag=head.pipeline_tag,
        tags=["kakehashi"],
        base_model=start if start and run.is_hub_id(start) else None,
        datasets=list(dict.fromkeys(_split_hub_id(source)[0] for source in named if run.is_hub_id(source))) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        eval_results=results or None,
    )


def _split_hub_id(source: str) -> tuple[str, str | None]:
    """Returns the name of a data set on the Hub, and the configuration that may stand behind it."""
    name, _, configuration = source.partition(":")
    return name, configuration or None


def to_eval_results(measurement: Measurement) -> list[EvalResult]:
    """Returns what was measured in the form of the Hub's `model-index`, one result for each measure.

    Args:
        measurement: From `evaluations.json`.
    """
    into = measurement.target_language
    task = _TASKS.get(measurement.task) or ("translation" if into else "text2text-generation")
    label = ", ".join(measurement.data)
    # The Hub's name of a data set, or for a file a word in the same alphabet.
    kind, configuration = _split_hub_id(label) if "/" in label else (re.sub(r"[^\w.-]+", "-", label), None)
    # What is measured on one data set differs by this and nothing else.
    parts = [part for part in (configuration, into and f"to-{into}") if part]
    return [
        EvalResult(
            task_type=task,
            dataset_type=kind,
            dataset_name=label if into is None else f"{label}, into {into}",
            dataset_config="-".join(parts) or None,
            metric_type=_METRIC_TYPES.get(measure, measure),
            metric_name=measure,
            metric_value=value,
            # Not of the data set: all that was measured on one data set shares what is said of it.
            metric_args={"rows": measurement.rows, **measurement.settings},
        )
        for measure, value in measurement.scores.items()
        # How many tokens there were is no quality of the model.
        if measure != "predicted_tokens"
    ]


def _measurement_row(measurement: Measurement) -> dict[str, Any]:
    """Returns a measurement as the tables of the card show it."""
    into = measurement.target_language
    return {
        "task": measurement.task if into is None else f"translation into {into}",
        "data": measurement.data,
        "rows": f"{measurement.rows:,}",
        "settings": ", ".join(f"{key} {value}" for key, value in measurement.settings.items()) or "none",
        "scores": {measure: _format_number(value) for measure, value in measurement.scores.items()},
        "date": measurement.date,
    }


def _describe_files(run: FinishedRun) -> dict[str, list[str]]:
    """Returns the names of the files or data sets by the role they had."""
    described = {role: run.sources(key) for role, key in _DATA_KEYS.items()}
    return {role: names for role, names in described.items() if names}


def _describe_start(run: FinishedRun) -> str:
    """Returns sentences on the weights that training began from, how long it took, and the rows of one of several."""
    came_from = code(run.start) if run.start else f"random weights of the preset `{run.recipe.get('preset')}`"
    seconds = run.metrics.get("train_runtime")
    duration = f" It took {_format_duration(seconds)}." if isinstance(seconds, (int, float)) else ""
    described = f"Training started from {came_from}.{duration}{_describe_part(run.metrics.get('part'))}"
    averaged = as_list(run.metrics.get("averaged_runs"))
    if averaged:
        described += (
            f" The weights are the mean of those of the runs {code(*averaged)}: start, rows and arguments are those "
            "of the first, the time is that of all together."
        )
    return described


def _describe_part(part: Mapping[str, Any] | None) -> str:
    """Returns a sentence on a model that is one of several and had a part of the rows; nothing on another."""
    if part is None:
        return ""
    among = "{folds} folds" if "folds" in part["keys"] else "{seeds} runs on {shots} rows of each label"
    rows = f"{part['train_rows']:,} of the {part['of_rows']:,} training rows"
    return f" It is `{part['name']}` of {among.format(**part['keys'])}: it learned from {rows}."


def _format_duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), _SECONDS_OF_AN_HOUR)
    minutes, seconds = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{amount} {unit}" for amount, unit in parts if amount) or "less than a second"


def public_versions(run: FinishedRun) -> dict[str, Any]:
    """Returns hardware, packages and commit of a run, without what names a machine or a person."""
    known = {key: value for key, value in run.versions.items() if value is not None}
    return {key: value for key, value in known.items() if key not in _ENVIRONMENT_KEYS_LEFT_OUT}


def public_recipe(run: FinishedRun) -> dict[str, Any]:
    """Returns the recipe of a run as a stranger may see it: of every path the last name, and no secret.

    Args:
        run: What the run left.
    """
    kept = {key: value for key, value in run.recipe.items() if key not in _KEYS_OF_ONE_MACHINE}
    shown: dict[str, Any] = {key: run.sources(key) for key in _DATA_KEYS.values() if kept.get(key)}
    shown |= {key: run.shown(kept[key]) for key in ("model", "tokenizer") if kept.get(key)}
    return {key: shown.get(key, without_folders(value)) for key, value in kept.items()}


def _chosen_arguments(run: FinishedRun) -> dict[str, Any]:
    """Returns the recipe's keys and values for the card's table, without those shown elsewhere on the card."""
    return {key: value for key, value in public_recipe(run).items() if key not in _KEYS_SHOWN_ELSEWHERE}


def cell(value: Any) -> str:
    """Returns a value as the text of a cell of a table, which a bar or a line break would end."""
    return " ".join(str(value).replace("|", "\\|").split())


def code(*values: Any) -> str:
    """Returns values as code in a cell, each between more backticks than stand side by side in it."""
    spans = []
    for text in map(cell, values):
        longest = max(map(len, re.findall("`+", text)), default=0)
        edge = "`" * (longest + 1)
        spans.append(f"{edge} {text} {edge}" if longest else f"{edge}{text}{edge}")
    return ", ".join(spans)


def without_folders(value: Any) -> Any:
    """Returns a recipe's value with every absolute path in it cut to its last name.

    Args:
        value: A value as YAML reads it; lists and mappings are gone through.
    """
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(each) for each in value]
    is_path = isinstance(value, str) and re.match(r"^(/|~|[A-Za-z]:[\\/])\S+$", value)
    return Path(value.replace("\\", "/")).name if is_path else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _format_number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
