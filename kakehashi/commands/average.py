"""`kakehashi average`: one model from several that were tuned from the same one."""

from typing import Annotated

import typer

from kakehashi.commands import options
from kakehashi.commands.terminal import silence_libraries

Models = Annotated[
    list[str], typer.Argument(help="Two or more model folders or ids on the Hugging Face Hub.", metavar="MODEL...")
]


def average(models: Models, *, output_dir: options.OutputDir) -> None:
    """Write the mean of the weights of several MODELs that were tuned from the same one, as a model of its own.

    It costs no more to use than one of them, and may answer better than each: measure it.
    """
    silence_libraries()
    from kakehashi.training.averaging import average_models

    cosines = average_models(models, output_dir)
    typer.echo(f"{models[0]}\t1.0000")
    for name, cosine in cosines.items():
        typer.echo(f"{name}\t{cosine:.4f}")
    typer.echo(f"saved in  {output_dir}")
