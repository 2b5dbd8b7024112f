"""`kakehashi tokenizer`: train one, look into it, count with it, extend it."""

import random
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from kakehashi.commands import options
from kakehashi.commands.texts import Files, TextColumn, iterate_training_texts
from kakehashi.commands.tokenizer_count import count
from kakehashi.commands.tokenizer_extend import extend
from kakehashi.commands.tokenizer_report import report
from kakehashi.commands.tokenizer_show import show
from kakehashi.training.aside import fill_new_folder, require_free_folder

_SAMPLE_TEXTS = 2000

app = typer.Typer(
    name="tokenizer", help="Train a tokenizer, look into it, count with it, extend it.", no_args_is_help=True
)


@app.command()
def train(
    files: Files,
    output_dir: options.OutputDir,
    vocab_size: Annotated[int, typer.Option(help="Entries in all: special tokens, 256 bytes, merges.")] = 16_000,
    text_column: TextColumn = ["text"],  # noqa: B006
    min_frequency: Annotated[int, typer.Option(help="How often a pair must occur to be merged.")] = 2,
    num_sentinels: Annotated[int, typer.Option(help="Sentinels for span corruption.")] = 100,
    balance: Annotated[
        float,
        typer.Option(
            help="Below 1, thin out the larger of FILES (and columns): shares follow bytes ** BALANCE; 1 reads all."
        ),
    ] = 0.25,
    special_token: Annotated[
        list[str], typer.Option(help="A special token of your own, such as <|tool|>; may be repeated.")
    ] = [],  # noqa: B006
    pad_to_multiple_of: Annotated[int, typer.Option(help="Round the size up to a multiple of this.")] = 64,
    allow_smaller: Annotated[
        bool, typer.Option("--allow-smaller", help="Accept fewer entries if the text gives no more.")
    ] = False,
) -> None:
    """Train a byte-level BPE tokenizer on FILES and save it for AutoTokenizer."""
    require_free_folder(output_dir)
    from kakehashi.tokenization.compression import measure_compression
    from kakehashi.tokenization.train import save_tokenizer, train_tokenizer

    sample: list[str] = []
    tokenizer = train_tokenizer(
        _keep_sample(iterate_training_texts(files, text_column, balance=balance), sample),
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        num_sentinels=num_sentinels,
        extra_special_tokens=special_token,
        pad_to_multiple_of=pad_to_multiple_of,
        allow_smaller=allow_smaller,
    )
    with fill_new_folder(output_dir) as folder:
        save_tokenizer(tokenizer, folder)
    compression = measure_compression(tokenizer, sample)
    typer.echo(f"vocabulary size       {len(tokenizer):,}")
    typer.echo(
        f"characters per token  {compression.characters_per_token:.2f}  "
        f"(on {compression.num_texts:,} of the training texts)"
    )
    typer.echo(f"saved in              {output_dir}")


def _keep_sample(texts: Iterable[str], sample: list[str]) -> Iterator[str]:
    """Yields `texts` and leaves a uniform random sample of them in `sample` (reservoir sampling)."""
    rng = random.Random(0)
    for index, text in enumerate(texts):
        if len(sample) < _SAMPLE_TEXTS:
            sample.append(text)
        elif (place := rng.randrange(index + 1)) < _SAMPLE_TEXTS:
            sample[place] = text
        yield text


for _command in (show, count, report, extend):
    app.command()(_command)
