"""`kakehashi tokenizer report`: one page about a vocabulary."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kakehashi.commands.texts import TextColumn, iterate_training_texts
from kakehashi.training.aside import replace_file, require_writable_file


def report(
    tokenizer: Annotated[str, typer.Argument(help="Tokenizer or model folder, or a Hub id.", metavar="DIR")],
    output: Annotated[Path, typer.Option(help="HTML file to write.")],
    example: Annotated[list[str], typer.Option(help="Text whose merges to show; may be repeated.")] = [],  # noqa: B006
    texts: Annotated[
        list[str], typer.Option(help="File to measure on, as for `train`: tokens per language, unused entries.")
    ] = [],  # noqa: B006
    text_column: TextColumn = ["text"],  # noqa: B006
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Write one self-contained HTML page about the vocabulary in DIR."""
    require_writable_file("--output", output)
    if output.exists() and not overwrite:
        raise ValueError(f"`--output` must be a new file, but {output} is there: name another or add --overwrite.")
    from kakehashi.tokenization.peers import load_tokenizer
    from kakehashi.tokenization.report import DEFAULT_EXAMPLES, build_report
    from kakehashi.training.documents import require_unread_file

    require_unread_file("--output", output, texts)
    page = build_report(
        load_tokenizer(tokenizer),
        tokenizer,
        examples=example or DEFAULT_EXAMPLES,
        open_texts=partial(iterate_training_texts, texts, text_column) if texts else None,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(output, lambda aside: aside.write_text(page, "utf-8"))
    typer.echo(f"saved in  {output}")
