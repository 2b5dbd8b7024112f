"""`kakehashi embed`: texts as vectors, and how near they are to each other."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kakehashi.commands import options
from kakehashi.commands.lines import on_one_line
from kakehashi.commands.terminal import open_stdout, silence_libraries
from kakehashi.commands.texts import TextColumn, iterate_texts_or_stdin

if TYPE_CHECKING:
    from kakehashi.training.embedding import Vectors

MAX_COLUMNS: Final = 10
"""Texts up to which every two are compared in the table; beyond, each with its nearest."""

MAX_COMPARED: Final = 1000
"""Texts up to which any are compared: the table grows with their square."""

_SHOWN_CHARACTERS = 48
_HOW_TO_READ = "cosine of the angle between two texts: 1 same direction, 0 unrelated, -1 opposite"

Texts = Annotated[
    list[str] | None, typer.Argument(help="Texts. Without any and without --file, lines of stdin.", metavar="TEXT")
]
File = Annotated[
    list[str] | None,
    typer.Option(help="txt (a text per line), jsonl, json, csv, tsv or parquet; - is stdin. May be repeated."),
]
Output = Annotated[
    Path | None, typer.Option(help="File to write the vectors to: .npy, .safetensors or .jsonl, one row per text.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print texts and similarities as one JSON object.")]


def embed(
    model: options.Model,
    texts: Texts = None,
    file: File = None,
    text_column: TextColumn = ["text"],  # noqa: B006
    output: Output = None,
    as_json: AsJson = False,
    batch_size: options.BatchSize = 16,
    device: options.DeviceName = options.Device.auto,
    dtype: options.DtypeName = options.Dtype.auto,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Turn each TEXT into the mean of its context vectors, and print the cosine similarity of the texts.

    Reads the encoder of any model that has one: encoder-decoder, encoder or classifier.
    """
    silence_libraries()
    from kakehashi.training.documents import require_unread_file
    from kakehashi.training.embedding import check_vectors_path, cosine_similarities, embed_texts, save_vectors
    from kakehashi.training.inference import load_for_embedding

    if output is not None:
        check_vectors_path(output)
        require_unread_file("--output", output, file or [])
    rows = _read(texts, file, text_column)
    if len(rows) > MAX_COMPARED and output is None:
        raise ValueError(
            f"`--output` must be given for more than {MAX_COMPARED:,} texts, got {len(rows):,} without it"
        )
    network, tokenizer = load_for_embedding(
        model, device=device.argument, dtype=dtype.argument, trust_remote_code=trust_remote_code
    )
    vectors = embed_texts(network, tokenizer, rows, batch_size=batch_size)
    if output is not None:
        save_vectors(output, rows, vectors)
        print(f"{len(rows):,} vectors of {vectors.shape[1]:,} numbers in {output}", file=sys.stderr)
    compared = 1 < len(rows) <= MAX_COMPARED
    similarities = cosine_similarities(vectors) if compared else None
    if as_json:
        found = None if similarities is None else [[round(float(each), 6) for each in row] for row in similarities]
        described = {"texts": rows, "dimensions": vectors.shape[1], "cosine_similarities": found}
        typer.echo(json.dumps(described, ensure_ascii=False))
    elif similarities is not None:
        _print_similarities(rows, similarities)
    elif output is None:
        typer.echo(f"{vectors.shape[1]:,} numbers; a second text would show how near they are")


def _read(texts: list[str] | None, files: list[str] | None, text_columns: list[str]) -> list[str]:
    if texts and files:
        raise ValueError("texts must come from TEXT or from `--file`, got both")
    rows = list(texts or iterate_texts_or_stdin(files, text_columns))
    if not rows:
        raise ValueError("there must be at least one text, got none")
    return rows


def _print_similarities(texts: list[str], similarities: "Vectors") -> None:
    from rich.table import Table
    from rich.text import Text

    from kakehashi.training.embedding import nearest_texts

    table = Table(box=None, pad_edge=False)
    table.add_column("text")
    shown = [Text(f"{number}  {_short(text)}") for number, text in enumerate(texts, start=1)]
    if len(texts) <= MAX_COLUMNS:
        for number in range(1, len(texts) + 1):
            table.add_column(str(number), justify="right")
        for label, row in zip(shown, similarities, strict=True):
            table.add_row(label, *(f"{value:.3f}" for value in row))
    else:
        table.add_column("nearest")
        table.add_column("cosine", justify="right")
        for index, (label, other) in enumerate(zip(shown, nearest_texts(similarities), strict=True)):
            table.add_row(label, shown[other], f"{similarities[index, other]:.3f}")
    console = open_stdout()
    console.print(table)
    console.print(_HOW_TO_READ, style="dim")


def _short(text: str) -> str:
    line = on_one_line(text)
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 1]}…"
