"""The texts that `kakehashi tokenizer` and `kakehashi embed` read: files of several kinds at once, or stdin."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Annotated, Final

import typer

STDIN: Final = "-"
_LINES_PER_CHUNK = 1000

Files = Annotated[
    list[str],
    typer.Argument(
        help="txt, jsonl, json, csv, tsv or parquet files (also compressed), folders, or Hub data set ids."
    ),
]
FilesOrStdin = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders or Hub data set ids as for `train`; - or nothing reads lines from stdin."),
]
TextColumn = Annotated[
    list[str], typer.Option(help="Column with text; may be repeated. Lines of .txt files are read as they are.")
]


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


def iterate_texts_or_stdin(files: Sequence[str] | None, text_columns: Sequence[str]) -> Iterator[str]:
    """Yields the texts of `files`, or the lines of stdin where a file is `-` or none is named.

    Raises:
        ValueError: as `iterate_training_texts`, or if a line of stdin is not UTF-8.
    """
    files = list(files or [STDIN])
    named = [file for file in files if file != STDIN]
    texts: Iterable[str] = iterate_training_texts(named, text_columns) if named else ()
    return chain(_iterate_stdin(), texts) if STDIN in files else iter(texts)


def _iterate_stdin() -> Iterator[str]:
    from kakehashi.commands.lines import read_line_chunks

    if sys.stdin.isatty():
        print("One text per line, Ctrl-D ends.", file=sys.stderr)
    for chunk in read_line_chunks(sys.stdin.buffer, _LINES_PER_CHUNK):
        yield from (line for line in chunk if line)


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
