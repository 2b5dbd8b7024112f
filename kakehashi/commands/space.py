"""`kakehashi space`: a page to try a model on, for a Space on the Hub or for this machine."""

from typing import Annotated

import typer

from kakehashi.commands import options
from kakehashi.commands.terminal import silence_libraries


def space(
    model: options.Model,
    *,
    output_dir: options.OutputDir,
    classifier: Annotated[
        str | None, typer.Option(help="A model that labels texts, by folder or Hub id: gives the page one more tab.")
    ] = None,
    include_model: Annotated[
        bool, typer.Option("--include-model", help="Copy models that are folders of this machine into the Space.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Heading of the page; without it, the name of the model.")] = None,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    r"""Write a Gradio page for MODEL: translate both ways, classify, see tokens and attention.

    Runs as a Space on the Hub, and on this machine with: pip install 'kakehashi\[space]'.
    """
    silence_libraries()
    from kakehashi.training.space.folder import space_name, write_space

    write_space(
        model,
        output_dir,
        classifier=classifier,
        include_model=include_model,
        title=title,
        trust_remote_code=trust_remote_code,
    )
    typer.echo(f"saved in  {output_dir}")
    typer.echo(f"here      python {output_dir / 'app.py'}")
    name = space_name(output_dir.resolve().name)
    typer.echo(f"on Hub    hf upload YOUR_NAME/{name} {output_dir} . --repo-type space")
