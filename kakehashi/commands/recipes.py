"""The commands `recipes list`, `copy` and `accelerate`: recipes and launch configurations of the package."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The recipes that come with kakehashi.", no_args_is_help=True)


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
