"""Texts in, one line out for each: what `generate`, `translate` and `classify-text` have in common."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO

# A chunk is sorted by length before it is cut into batches: more batches, less padding, later first answer.
BATCHES_PER_CHUNK = 8

_READ_BYTES = 1 << 16


def answer_lines(texts: Sequence[str] | None, answer: Callable[[list[str]], list[str]], *, batch_size: int) -> None:
    """Prints exactly one line to stdout for each text, in order.

    An empty line of stdin gives an empty line, without asking the model.

    Args:
        texts: The texts; without any, the lines of stdin are read as they come.
        answer: Returns one answer for each of some non-empty texts.
        batch_size: Texts that run through the model together.

    Raises:
        ValueError: If one of `texts` is empty, or a line of stdin is not UTF-8.
    """
    chunks = _chunks_of_texts(texts, batch_size) if texts else _chunks_of_stdin(batch_size * BATCHES_PER_CHUNK)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Lines leave as they came, whatever the locale says.
        sys.stdout.reconfigure(encoding="utf-8")
    num_lines = 0
    with _line_counter() as show:
        for chunk in chunks:
            answers = iter(answer([line for line in chunk if line]))
            for line in chunk:
                print(on_one_line(next(answers)) if line else "", flush=False)
            sys.stdout.flush()
            num_lines += len(chunk)
            show(num_lines)


def on_one_line(text: str) -> str:
    """Returns the text with every kind of line break as a space, so that it stays one line for every reader."""
    return " ".join(text.splitlines())


def read_line_chunks(stream: BinaryIO, chunk_size: int) -> Iterator[list[str]]:
    """Yields the lines of a UTF-8 stream in lists, as soon as they can be read.

    Whatever has already arrived comes together, up to `chunk_size` lines; nothing waits for more to arrive. So a
    file is read in large chunks, and a program that writes one line and waits for its answer gets it.

    Args:
        stream: Bytes; lines end with a line feed, the last one may lack it.
        chunk_size: Most lines in a list.

    Raises:
        ValueError: If a line is not UTF-8.
    """
    number, rest = 0, b""
    while data := stream.read1(_READ_BYTES):  # type: ignore[attr-defined]
        *lines, rest = (rest + data).split(b"\n")
        for start in range(0, len(lines), chunk_size):
            yield [_decode_line(line, number + start + i) for i, line in enumerate(lines[start : start + chunk_size])]
        number += len(lines)
    if rest:
        yield [_decode_line(rest, number)]


def _decode_line(line: bytes, index: int) -> str:
    try:
        # A byte order mark may stand before the first line, a carriage return before any line feed.
        text = line.decode("utf-8-sig" if index == 0 else "utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ValueError(f"stdin must be UTF-8, but line {index + 1} is not: {error.reason}") from error
    return text if text.strip() else ""


def _chunks_of_texts(texts: Sequence[str], batch_size: int) -> Iterator[list[str]]:
    for index, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"`TEXT` must hold at least one character, but text {index + 1} is empty: {text!r}")
    remaining = iter(texts)
    while chunk := list(islice(remaining, batch_size * BATCHES_PER_CHUNK)):
        yield chunk


def _chunks_of_stdin(chunk_size: int) -> Iterator[list[str]]:
    if sys.stdin.isatty():
        print("One text per line, Ctrl-D ends.", file=sys.stderr)
    return read_line_chunks(sys.stdin.buffer, chunk_size)


@contextmanager
def _line_counter() -> Iterator[Callable[[int], None]]:
    # With answers on the same terminal they are the progress themselves; a bar would only get between them.
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield lambda num_lines: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.completed:,.0f} lines"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("lines", total=None)
        yield lambda num_lines: progress.update(task, completed=num_lines)
