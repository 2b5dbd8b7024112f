"""The command `check`: what a recipe will do, before anyone waits for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kakehashi.commands.train import Recipe, naming_missing_packages

if TYPE_CHECKING:
    from rich.console import Console

    from kakehashi.training.check_recipe import RecipeCheck

_FILE_WIDTH = 119
_PLACES = ("embedding", "encoder", "decoder", "head")
_MEMORY = ("weights", "gradients", "optimizer", "activations", "logits", "total")


def check(
    context: typer.Context,
    recipe: Recipe,
    stage: Annotated[
        str | None, typer.Option(help="pretrain, instruct or classify, where the recipe does not tell.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time a few steps in place of assuming a rate.")] = False,
    utilization: Annotated[
        float | None, typer.Option(min=0.001, max=1.0, help="Assumed share of the device's peak.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a recipe will do: model, data, memory, time and what is likely not meant. Writes nothing."""
    import json

    from rich.console import Console

    from kakehashi.training.check_recipe import check_recipe
    from kakehashi.training.recipe import read_overrides

    overrides = read_overrides(context.args)
    with naming_missing_packages():
        checked = check_recipe(recipe, overrides, stage=stage, utilization=utilization, measure=measure)
    if as_json:
        typer.echo(json.dumps(checked.as_dict(), ensure_ascii=False, indent=2, default=str))
        return
    console = Console(highlight=False)
    # A file or a pipe has no width of its own.
    _show(checked, console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH))


def _show(checked: RecipeCheck, console: Console) -> None:
    _table(console, f"Recipe ({checked.stage})", [(key, _plain(value)) for key, value in checked.recipe.items()])
    _table(console, f"Model: {checked.model['class']}", _model_lines(checked.model))
    parts = checked.run["parts"]
    _table(console, "Data" if parts == 1 else f"Data of each of {parts} runs", _data_lines(checked.data))
    _table(console, "A step", _step_lines(checked.step, _unit(checked.data)))
    _table(console, "Memory of a device, estimated", _memory_lines(checked.memory))
    _table(console, "The run" if parts == 1 else f"Each of {parts} runs", _run_lines(checked.run, checked.time))
    for warning in checked.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    if not checked.warnings:
        console.print("no warnings", style="green")


def _table(console: Console, title: str, lines: Iterable[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in lines:
        table.add_row(Text(name, style="cyan"), Text(value))
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print()


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _model_lines(model: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "vocabulary", f"{model['vocabulary']:,}"
    for place in _PLACES:
        if model[place]:
            yield place, f"{model[place]:,} parameters"
    yield "all", f"{model['parameters']:,} parameters"
    if model["trained_parameters"] != model["parameters"]:
        yield "trained", f"{model['trained_parameters']:,} parameters"


def _data_lines(data: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    at_least = "" if data["is_complete"] else "at least "
    for split in ("train", "validation", "test"):
        if split in data:
            examples = ""
            if "examples" in data[split]:
                examples = f" of data, {data[split]['examples']:,} {_unit(data)}"
            yield split, f"{at_least}{data[split]['rows']:,} rows{examples}"
    for side, numbers in data["lengths"].items():
        share, what = (numbers["cut"], "cut") if "cut" in numbers else (numbers["split"], "split")
        quantiles = (
            f"half ≤ {numbers['p50']}, 95 % ≤ {numbers['p95']}, 99 % ≤ {numbers['p99']}, all ≤ {numbers['max']}"
        )
        yield f"{side} tokens", f"{quantiles}; limit {numbers['limit']}: {share:.1%} {what}"
    for note in data["notes"]:
        yield "labels", note
    yield "sample", f"{data['sampled_rows']:,} rows"


def _unit(data: Mapping[str, Any]) -> str:
    return "packed rows" if data["train"]["is_packed"] else "examples"


def _step_lines(step: Mapping[str, float], unit: str) -> Iterable[tuple[str, str]]:
    yield unit, f"{step['examples']:,.0f}"
    yield "tokens", f"{step['source_tokens']:,.0f} source, {step['target_tokens']:,.0f} target"
    yield "slots filled", f"{step['packing_efficiency']:.1%} of {step['slots']:,.0f}"
    yield "operations", f"{step['flops']:.3g}, {step['flops_per_token']:.3g} for each token"


def _memory_lines(memory: Mapping[str, float | None]) -> Iterable[tuple[str, str]]:
    for name in _MEMORY:
        size = memory[name]
        yield name, "unknown for this family" if size is None else _bytes(size)
    if memory["device"] is not None:
        yield "there are", _bytes(memory["device"])


def _bytes(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _run_lines(run: Mapping[str, Any], time: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "steps", f"{run['steps']:,} ({run['epochs']:.2f} epochs of {run['steps_per_epoch']:,})"
    yield "tokens", f"{run['tokens']:,.0f}"
    peak = f"{time['peak_flops_per_second']:.3g} operations a second ({time['peak_source']})"
    yield "peak", peak if time["devices"] == 1 else f"{time['devices']} × {peak}"
    source = f"measured in {time['measured_steps']} steps" if time["measured_steps"] else "assumed"
    yield "utilization", f"{time['utilization']:.1%} ({source})"
    yield "speed", f"{time['tokens_per_second']:,.0f} tokens a second, {time['seconds_per_step']:.3g} s a step"
    is_budget = run["max_minutes"] is not None and time["seconds"] >= 60 * run["max_minutes"] * run["parts"]
    what = "the time budget, validation included" if is_budget else "without validation and checkpoints"
    of_all = "" if run["parts"] == 1 else " for all runs"
    yield "time", f"{timedelta(seconds=round(time['seconds']))}{of_all}, {what}"
