"""The commands `recipes list`, `copy`, `keys` and `accelerate`: recipes, what they may hold, how to launch them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The recipes that come with kakehashi, and what one may hold.", no_args_is_help=True)


@app.command("list")
def list_shipped() -> None:
    """List the shipped recipes, one line each."""
    from kakehashi.training.recipes import list_recipes

    recipes = list_recipes()
    width = max(map(len, recipes), default=0)
    for name, purpose in recipes.items():
        typer.echo(f"{name:<{width}}  {purpose}")


@app.command("copy")
def copy(
    name: Annotated[str, typer.Argument(help="Name as `recipes list` shows it.")],
    destination: Annotated[Path, typer.Argument(help="File to create, or a directory.")] = Path("."),
) -> None:
    """Copy a shipped recipe, to be changed."""
    from kakehashi.training.recipes import copy_recipe

    typer.echo(copy_recipe(name, destination))


@app.command("keys")
def keys(stage: Annotated[str, typer.Argument(metavar="STAGE", help="pretrain, instruct or classify.")]) -> None:
    """Print every key of ours that a recipe of STAGE may hold, with its default; in a pipe as lines of columns."""
    import dataclasses

    from kakehashi.training.arguments import STAGES, TRAINING_DEFAULTS

    if stage not in STAGES:
        raise ValueError(f"`stage` must be one of {', '.join(STAGES)}, got {stage!r}")
    rows = [(key.name, _spell(key.default), key.metadata["help"]) for key in dataclasses.fields(STAGES[stage])]
    if sys.stdout.isatty():
        _show_keys(rows)
    else:
        for row in rows:
            typer.echo("\t".join(row))
    changed = ", ".join(f"{name}: {_spell(value)}" for name, value in TRAINING_DEFAULTS.items())
    typer.echo(
        "Every key of Transformers' Seq2SeqTrainingArguments may be used too; these have another default here: "
        f"{changed}"
    )


def _spell(value: object) -> str:
    """Returns a value as a recipe holds it, for a key or in its help: None is what stands there without the key."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show_keys(rows: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title, style in (("key", "cyan"), ("default", "green"), ("what it is for", "")):
        # Where there is too little room, the help breaks its lines, and no key does.
        table.add_column(title, style=style, no_wrap=title == "key")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


@app.command("accelerate")
def accelerate(
    name: Annotated[str | None, typer.Argument(help="Name of a configuration; left out, all are listed.")] = None,
) -> None:
    """Print where a configuration for `accelerate launch --config_file` stands, or list them."""
    from kakehashi.training.accelerate_configs import find_config, list_configs

    configs = list_configs()
    if name is None:
        width = max(map(len, configs), default=0)
        for each, purpose in configs.items():
            typer.echo(f"{each:<{width}}  {purpose}")
        return
    path = find_config(name)
    if path is None:
        raise ValueError(f"`name` must be one of {', '.join(configs)}, got {name!r}")
    typer.echo(path)
