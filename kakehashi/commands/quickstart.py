"""The command that shows the whole road once: `kakehashi quickstart`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ROWS = (
    ("exact match en → ja", "exact_match_en_ja", "{:.1%}"),
    ("exact match ja → en", "exact_match_ja_en", "{:.1%}"),
    ("chrF en → ja", "chrf_en_ja", "{:.3f}"),
    ("chrF ja → en", "chrf_ja_en", "{:.3f}"),
    ("classification accuracy", "classification_accuracy", "{:.1%}"),
    ("parameters", "parameters", "{:,}"),
    ("seconds in all", "seconds_total", "{:.0f}"),
)
"""What the closing table shows: name, key of `summary.json`, format."""


def quickstart(
    output_dir: Annotated[Path, typer.Option(help="Folder to write to; must be empty or new.")] = Path(
        "runs/quickstart"
    ),
    seed: Annotated[int, typer.Option(help="Seeds the corpus and the training; another seed, another run.")] = 0,
) -> None:
    """Run the whole road on the embedded corpus: vocabulary, three trainings, evaluation, loading anywhere."""
    from rich.console import Console

    from kakehashi.training.quickstart import run_quickstart

    result = run_quickstart(output_dir, seed, Console(stderr=True))
    _print_result(result, output_dir, Console())


def _print_result(result: dict[str, Any], output_dir: Path, console: Console) -> None:
    """Prints what the models answered, what was measured and what to try next."""
    console.print("[bold]Sentences never seen, answered by the folders loaded without kakehashi[/bold]")
    console.print(_table(("task", "input", "output"), result["examples"]))
    numbers = [{"measured": name, "value": form.format(result[key])} for name, key, form in ROWS]
    seconds = [
        {"measured": f"  {stage}", "value": f"{value:.0f}"} for stage, value in result["seconds_by_stage"].items()
    ]
    console.print("[bold]Measured on combinations of words and frames that were held out[/bold]")
    console.print(_table(("measured", "value"), numbers + seconds))
    console.print(
        f"All of it is in {output_dir}, the numbers in {output_dir / 'summary.json'}. Try next:\n"
        f'  kakehashi translate {output_dir / "instruct"} --to ja "My sister reads books."\n'
        f'  kakehashi classify-text {output_dir / "classify"} "The dog runs in the park."\n'
        f"  kakehashi recipes list",
        highlight=False,
        soft_wrap=True,
    )


def _table(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> Table:
    """Lays rows out; long cells go on in the next line instead of losing their end."""
    from rich.table import Table

    table = Table(show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column == "value" else "left")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table
