"""The commands `recipes list` and `recipes copy`: the recipes that come with the package."""

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
