"""`kakehashi tokenizer count`: what texts cost, language by language, beside other tokenizers."""

from typing import TYPE_CHECKING, Annotated

import typer

from kakehashi.commands import options
from kakehashi.commands.terminal import open_stdout
from kakehashi.commands.texts import FilesOrStdin, TextColumn, iterate_texts_or_stdin

if TYPE_CHECKING:
    from rich.table import Table

    from kakehashi.tokenization.compression import Compression
    from kakehashi.tokenization.efficiency import Efficiency

_LONGEST_EXAMPLE = 80


def count(
    tokenizer: options.TokenizerName,
    files: FilesOrStdin = None,
    text_column: TextColumn = ["text"],  # noqa: B006
    compare: Annotated[
        list[str], typer.Option(help="Another tokenizer: a folder, a Hub id or a tiktoken encoding; may be repeated.")
    ] = [],  # noqa: B006
    examples: Annotated[int, typer.Option(min=0, help="Most and least efficient texts to show per language.")] = 3,
) -> None:
    """Count the tokens of FILES, or of the lines of stdin, for each language."""
    from kakehashi.tokenization.efficiency import Efficiency
    from kakehashi.tokenization.peers import load_counter

    counters = {name: load_counter(name) for name in (tokenizer, *compare)}
    measured = Efficiency(counters, num_examples=examples).read(iterate_texts_or_stdin(files, text_column))
    if not measured.total[tokenizer].num_texts:
        raise ValueError("`FILES` must hold at least one text to count, got none.")
    console = open_stdout()
    console.print(_tabulate(measured))
    if examples:
        console.print()
        console.print(_tabulate_examples(measured))


def _tabulate(measured: "Efficiency") -> "Table":
    from rich.table import Table

    table = Table("language", "tokenizer", box=None, pad_edge=False)
    for title in ("texts", "characters", "tokens", "characters/token", "bytes/token", "tokens beside the first"):
        table.add_column(title, justify="right")
    groups = sorted(measured.by_language.items(), key=lambda item: -next(iter(item[1].values())).num_characters)
    if len(groups) > 1:
        groups.append(("all", measured.total))
    for language, rows in groups:
        first = next(iter(rows.values()))
        for name, row in rows.items():
            table.add_row(language, name, *_cells(row, first))
    return table


def _cells(row: "Compression", first: "Compression") -> list[str]:
    counts = (row.num_texts, row.num_characters, row.num_tokens)
    ratios = (row.characters_per_token, row.bytes_per_token)
    beside = f"{row.num_tokens / first.num_tokens - 1:+.1%}" if row is not first and first.num_tokens else ""
    return [*(f"{number:,}" for number in counts), *(f"{ratio:.2f}" for ratio in ratios), beside]


def _tabulate_examples(measured: "Efficiency") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("language", "efficiency", box=None, pad_edge=False)
    table.add_column("characters/token", justify="right")
    table.add_column("text", overflow="fold")
    for language in measured.by_language:
        for title, found in (
            ("most", measured.most_efficient(language)),
            ("least", measured.least_efficient(language)),
        ):
            for ratio, text in found:
                table.add_row(language, title, f"{ratio:.2f}", Text(_shorten(text)))
    return table


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_EXAMPLE else line[: _LONGEST_EXAMPLE - 1] + "…"
