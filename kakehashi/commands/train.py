"""The commands that train: `pretrain`, `instruct` and `classify`, each a recipe and whatever overrides it.

`kakehashi recipes keys STAGE` lists what may stand in the recipe and override it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kakehashi.training.arguments import StageArguments

# Any recipe key may follow the recipe; Typer hands on what it does not know.
RECIPE_CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
INTERRUPTED_EXIT_CODE = 130

Recipe = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of a shipped one (kakehashi recipes list). "
        "Any of its keys may follow as --key value (kakehashi recipes keys STAGE).",
        metavar="RECIPE",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the output folder.")]


def pretrain(context: typer.Context, recipe: Recipe, resume: Resume = False) -> None:
    """Pretrain a model on raw text."""
    from kakehashi.training.arguments import PretrainArguments
    from kakehashi.training.pretrain import run_pretrain

    _run_stage(PretrainArguments, run_pretrain, recipe, context.args, resume)


def instruct(context: typer.Context, recipe: Recipe, resume: Resume = False) -> None:
    """Teach a model to answer instructions, translation among them."""
    from kakehashi.training.arguments import InstructArguments
    from kakehashi.training.instruct import run_instruct

    _run_stage(InstructArguments, run_instruct, recipe, context.args, resume)


def classify(context: typer.Context, recipe: Recipe, resume: Resume = False) -> None:
    """Teach a model to put texts into classes."""
    from kakehashi.training.arguments import ClassifyArguments
    from kakehashi.training.classify import run_classify

    _run_stage(ClassifyArguments, run_classify, recipe, context.args, resume)


def _run_stage(
    stage: type[StageArguments],
    run: Callable[[Any, Any], dict[str, Any]],
    recipe: str,
    overrides: list[str],
    resume: bool,
) -> None:
    """Reads the recipe, runs the stage and prints its final numbers."""
    from kakehashi.training.console import hide_bars_off_terminal, notify
    from kakehashi.training.recipe import parse_recipe, read_overrides, read_recipe
    from kakehashi.training.run import TrainingInterrupted
    from kakehashi.training.run_folder import RESUME_NEWEST, finished_metrics

    hide_bars_off_terminal()
    with naming_missing_packages():
        arguments, training_arguments = parse_recipe(stage, read_recipe(recipe), read_overrides(overrides))
    # `parse_recipe` refuses a recipe without it.
    assert training_arguments.output_dir is not None
    folder = Path(training_arguments.output_dir)
    if resume:
        training_arguments.resume_from_checkpoint = RESUME_NEWEST
        finished = finished_metrics(folder)
        if finished is not None:
            notify(f"the run in {folder} is complete")
            _print_metrics(finished)
            return
    try:
        with naming_missing_packages():
            metrics = run(arguments, training_arguments)
    except TrainingInterrupted as interruption:
        notify(f"kakehashi: {interruption}")
        # Not chained: `main` would report the interruption a second time.
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    _print_metrics(metrics)


@contextmanager
def naming_missing_packages() -> Iterator[None]:
    """Turns the lack of a package that a key of Trainer needs into a ValueError."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"the recipe needs a package that is missing: {error}") from error


def _print_metrics(metrics: dict[str, Any]) -> None:
    from kakehashi.training.processes import is_first_process

    for name, value in metrics.items() if is_first_process() else ():
        typer.echo(f"{name}\t{value:.6g}" if isinstance(value, float) else f"{name}\t{value}")
