"""The command that shows the whole road once: `kakehashi quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

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
    from rich.table import Table

    answers = Table(
        title="Sentences never seen, answered by the folders loaded without kakehashi", title_justify="left"
    )
    answers.add_column("input")
    answers.add_column("output")
    for example in result["examples"]:
        answers.add_row(example["input"], example["output"])
    numbers = Table(title="Measured on held-out combinations of words and frames", title_justify="left")
    numbers.add_column("what")
    numbers.add_column("value", justify="right")
    for name, key, form in ROWS:
        numbers.add_row(name, form.format(result[key]))
    for stage, seconds in result["seconds_by_stage"].items():
        numbers.add_row(f"  {stage}", f"{seconds:.0f}")
    console.print(answers)
    console.print(numbers)
    console.print(
        f"All of it is in {output_dir}; the numbers in {output_dir / 'summary.json'}. Try next:\n"
        f'  kakehashi translate {output_dir / "instruct"} --to ja "My sister reads books."\n'
        f'  kakehashi classify-text {output_dir / "classify"} "The dog runs in the park."\n'
        f"  kakehashi recipes list      # recipes for your own text",
        highlight=False,
        soft_wrap=True,
    )
