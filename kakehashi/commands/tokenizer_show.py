"""`kakehashi tokenizer show`: the tokens of a text, and how byte pair encoding built them."""

from typing import TYPE_CHECKING, Annotated

import typer

from kakehashi.commands import options
from kakehashi.commands.terminal import open_stdout
from kakehashi.commands.tokenizer_display import printable, row_of_pieces, style_of

if TYPE_CHECKING:
    from rich.console import Console

    from kakehashi.tokenization.merges import Trace

_HOW_TO_READ = (
    "Each piece starts as bytes. Again and again the two neighbours whose merge has the smallest number are joined, "
    "that is the one most frequent in training: first bytes to frequent characters, then characters to subwords, then "
    "subwords to words. What training has never seen stays in smaller pieces."
)


def show(
    text: Annotated[str, typer.Argument(help="Text to cut into tokens.")],
    tokenizer: options.TokenizerName,
    merges: Annotated[bool, typer.Option("--merges", help="Show each step by which BPE built the tokens.")] = False,
) -> None:
    """Print each token of TEXT with its id and its bytes, and on request how it was built."""
    from kakehashi.tokenization.chat import check_scalar_values
    from kakehashi.tokenization.merges import trace_merges
    from kakehashi.tokenization.peers import load_tokenizer
    from kakehashi.tokenization.vocabulary import content_of

    check_scalar_values(text, "`TEXT`")
    loaded = load_tokenizer(tokenizer)
    ids = loaded(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    pieces = [content_of(loaded, token_id) for token_id in ids]
    traces = trace_merges(loaded, text) if merges else []
    console = open_stdout()
    _print_tokens(console, ids, pieces)
    console.print(f"{len(ids)} tokens, {len(text)} characters, {sum(map(len, pieces))} bytes")
    if merges:
        console.print(f"\n{_HOW_TO_READ}")
        for trace in traces:
            _print_trace(console, trace)


def _print_tokens(console: "Console", ids: list[int], pieces: list[bytes]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "token", "bytes", box=None, pad_edge=False)
    for index, (token_id, piece) in enumerate(zip(ids, pieces, strict=True)):
        table.add_row(str(token_id), Text(printable(piece), style_of(index)), piece.hex(" "))
    console.print(table)


def _print_trace(console: "Console", trace: "Trace") -> None:
    from rich.table import Table
    from rich.text import Text

    from kakehashi.tokenization.merges import stage_of

    console.print()
    console.print(Text(printable(trace.content), "bold"), f"({_outcome(trace)})")
    if not trace.merges:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("merge", justify="right")
    for title in ("joins", "to", "now"):
        table.add_column(title)
    table.add_row("", "", "bytes", row_of_pieces(bytes([byte]) for byte in trace.content))
    for merge in trace.merges:
        joins = Text(f"{printable(merge.left)} + {printable(merge.right)}")
        table.add_row(f"{merge.number:,}", joins, stage_of(merge.joined, trace.content), row_of_pieces(merge.pieces))
    console.print(table)


def _outcome(trace: "Trace") -> str:
    number = len(trace.tokens)
    if number > 1:
        return f"stays in {number} tokens: no merge was learned that joins them"
    return "one token" if trace.merges or len(trace.content) == 1 else "one token, found whole"
