"""`kakehashi tokenizer`: train one, look into it, count with it."""

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from transformers import PreTrainedTokenizerBase

_SAMPLE_TEXTS = 2000
_TOKEN_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")

app = typer.Typer(name="tokenizer", help="Train a tokenizer, look into it, count with it.", no_args_is_help=True)

Files = Annotated[
    list[str],
    typer.Argument(
        help="txt, jsonl, json, csv, tsv or parquet files (also compressed), folders, or Hub data set ids."
    ),
]
TextColumn = Annotated[
    list[str], typer.Option(help="Column with text; may be repeated. Lines of .txt files are read as they are.")
]
Tokenizer = Annotated[str, typer.Option("--tokenizer", "-t", help="Tokenizer or model folder, or a Hub id.")]


@app.command()
def train(
    files: Files,
    output_dir: Annotated[Path, typer.Option(help="Folder to make; it must not exist or be empty.")],
    vocab_size: Annotated[int, typer.Option(help="Entries in all: special tokens, 256 bytes, merges.")] = 16_000,
    text_column: TextColumn = ["text"],  # noqa: B006
    min_frequency: Annotated[int, typer.Option(help="How often a pair must occur to be merged.")] = 2,
    num_sentinels: Annotated[int, typer.Option(help="Sentinels for span corruption.")] = 100,
    balance: Annotated[
        float,
        typer.Option(help="Below 1, thin out the larger of FILES (and columns): shares follow bytes ** BALANCE."),
    ] = 1.0,
    pad_to_multiple_of: Annotated[int | None, typer.Option(help="Round the size up to a multiple of this.")] = None,
    allow_smaller: Annotated[
        bool, typer.Option("--allow-smaller", help="Accept fewer entries if the text gives no more.")
    ] = False,
) -> None:
    """Train a byte-level BPE tokenizer on FILES and save it for AutoTokenizer."""
    _require_free_folder(output_dir)
    from kakehashi.tokenization.compression import measure_compression
    from kakehashi.tokenization.train import train_tokenizer

    sample: list[str] = []
    tokenizer = train_tokenizer(
        _keep_sample(iterate_training_texts(files, text_column, balance=balance), sample),
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        num_sentinels=num_sentinels,
        pad_to_multiple_of=pad_to_multiple_of,
        allow_smaller=allow_smaller,
    )
    _save_in_new_folder(tokenizer, output_dir)
    compression = measure_compression(tokenizer, sample)
    typer.echo(f"vocabulary size       {len(tokenizer):,}")
    typer.echo(
        f"characters per token  {compression.characters_per_token:.2f}  "
        f"(on {compression.num_texts:,} of the training texts)"
    )
    typer.echo(f"saved in              {output_dir}")


@app.command()
def show(
    text: Annotated[str, typer.Argument(help="Text to cut into tokens.")],
    tokenizer: Tokenizer,
) -> None:
    """Print each token of TEXT with its id and its bytes."""
    from rich.table import Table
    from rich.text import Text

    from kakehashi.tokenization.pretokenization import token_bytes

    loaded = load_tokenizer(tokenizer)
    ids = loaded(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    pieces = [token_bytes(token) for token in loaded.convert_ids_to_tokens(ids)]
    table = Table("id", "token", "bytes", box=None, pad_edge=False)
    for index, (token_id, piece) in enumerate(zip(ids, pieces, strict=True)):
        style = _TOKEN_STYLES[index % len(_TOKEN_STYLES)]
        table.add_row(str(token_id), Text(_printable(piece), style), piece.hex(" "))
    console = _open_stdout()
    console.print(table)
    console.print(f"{len(ids)} tokens, {len(text)} characters, {sum(map(len, pieces))} bytes")


@app.command()
def count(
    files: Files,
    tokenizer: Tokenizer,
    text_column: TextColumn = ["text"],  # noqa: B006
    compare: Annotated[list[str], typer.Option(help="Further tokenizers to count with; may be repeated.")] = [],  # noqa: B006
) -> None:
    """Print how many tokens the texts of FILES take."""
    from rich.table import Table

    from kakehashi.tokenization.compression import measure_compression

    table = Table("tokenizer", box=None, pad_edge=False)
    for title in ("texts", "characters", "tokens", "characters/token", "bytes/token"):
        table.add_column(title, justify="right")
    for name in (tokenizer, *compare):
        result = measure_compression(load_tokenizer(name), iterate_training_texts(files, text_column))
        counts = (result.num_texts, result.num_characters, result.num_tokens)
        ratios = (result.characters_per_token, result.bytes_per_token)
        table.add_row(name, *(f"{number:,}" for number in counts), *(f"{ratio:.2f}" for ratio in ratios))
    _open_stdout().print(table)


def iterate_training_texts(
    files: Sequence[str], text_columns: Sequence[str], *, balance: float = 1.0
) -> Iterator[str]:
    """Yields the texts of files of several kinds, streaming.

    Args:
        files: as for `kakehashi.training.documents.iterate_texts`, but kinds may be mixed.
        text_columns: columns to read, one after another; `.txt` files have none, their lines are read.
        balance: exponent of `kakehashi.tokenization.balance.balance_sources`; a source is one column of one of
            `files`. 1 takes everything and reads it once.

    Raises:
        ValueError: as `iterate_texts`. The start of every file is read first, so that a wrong name or column is
            found before the long reading.
    """
    from kakehashi.tokenization.balance import balance_sources, keep_shares
    from kakehashi.training.documents import iterate_texts

    keep_shares([1], balance)
    groups = [[file] for file in files] if balance < 1.0 else _group_by_kind(files)
    parts = [(group, column) for group in groups for column in _columns_of(group, text_columns)]
    if balance < 1.0:
        for group, column in parts:
            next(iterate_texts(group, column), None)
        return balance_sources([partial(iterate_texts, group, column) for group, column in parts], balance)
    readers = [iterate_texts(group, column) for group, column in parts]
    starts = [list(islice(reader, 1)) for reader in readers]
    return chain.from_iterable(chain(start, reader) for start, reader in zip(starts, readers, strict=True))


def _group_by_kind(files: Sequence[str]) -> list[list[str]]:
    """Returns the files so that those that can be opened together are; a folder or a Hub id stands alone."""
    groups: list[list[str]] = []
    for kind, grouped in groupby(files, key=_kind_of_file):
        group = list(grouped)
        groups += [group] if kind else [[file] for file in group]
    return groups


def _columns_of(group: Sequence[str], text_columns: Sequence[str]) -> Sequence[str]:
    return ["text"] if _kind_of_file(group[0]) == ".txt" else text_columns


def _kind_of_file(name: str) -> str:
    suffixes = [suffix for suffix in Path(name).suffixes if suffix not in (".gz", ".xz", ".bz2", ".zst")]
    return suffixes[-1].lower() if suffixes and not Path(name).is_dir() else ""


def load_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """Returns the tokenizer in folder `name`, or the one of that Hub id.

    Raises:
        ValueError: if there is none that can be loaded.
    """
    from transformers import AutoTokenizer

    if Path(name).exists() and not (Path(name) / "tokenizer.json").is_file():
        raise ValueError(f"`{name}` must be a folder with a tokenizer.json, but it has none.")
    return AutoTokenizer.from_pretrained(name)


def _keep_sample(texts: Iterable[str], sample: list[str]) -> Iterator[str]:
    """Yields `texts` and leaves a uniform random sample of them in `sample` (reservoir sampling)."""
    rng = random.Random(0)
    for index, text in enumerate(texts):
        if len(sample) < _SAMPLE_TEXTS:
            sample.append(text)
        elif (place := rng.randrange(index + 1)) < _SAMPLE_TEXTS:
            sample[place] = text
        yield text


def _require_free_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`--output-dir` must be a folder, but {folder} is a file.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"`--output-dir` must be new or empty, but {folder} holds files: name another or empty it.")


def _save_in_new_folder(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Saves beside the folder and renames, so that a half-written tokenizer is never found there."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        saved = aside / folder.name
        # Made by `mkdir`, not by `mkdtemp`: it gets the usual permissions.
        saved.mkdir()
        tokenizer.save_pretrained(saved)
        os.replace(saved, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _open_stdout() -> "Console":
    from rich.console import Console

    # Into a file or a pipe, a long row stays one line.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)


def _printable(piece: bytes) -> str:
    """Returns the token as it reads; a piece of a character, or what cannot be seen, as escapes."""
    text = piece.decode("utf-8", errors="backslashreplace")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
