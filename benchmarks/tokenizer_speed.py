"""Encode the same lines with kakehashi's tokenizer, tiktoken and sentencepiece, and compare the speed in one run.

    python benchmarks/tokenizer_speed.py my-tokenizer text.en.txt.xz text.ja.txt.xz

Needs `pip install -e ".[bench]"`. The contestants take turns, so that whatever else runs slows all of them; the table
holds medians. tiktoken gets our vocabulary, and the table says in how many lines its ids are the same; sentencepiece
trains one of equal size on the same lines, because it cannot take ours. It also times training, ours and
sentencepiece's, on these lines.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import sentencepiece
import tiktoken
import typer
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from kakehashi.commands.texts import iterate_training_texts
from kakehashi.tokenization import train_tokenizer
from kakehashi.tokenization.peers import load_tokenizer
from kakehashi.tokenization.vocabulary import backend_content, list_entries

Encode = Callable[[list[str]], list[list[int]]]


def as_tiktoken(tokenizer: PreTrainedTokenizerBase) -> tiktoken.Encoding:
    """Returns our vocabulary and split as an encoding of tiktoken, with our ids."""
    split = backend_content(tokenizer)["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    entries = list_entries(tokenizer)
    ranks = {entry.content: entry.id for entry in entries if entry.kind in ("byte", "merge")}
    special = {entry.text or "": entry.id for entry in entries if entry.kind == "special"}
    return tiktoken.Encoding("kakehashi", pat_str=split, mergeable_ranks=ranks, special_tokens=special)


def train_sentencepiece(texts: Sequence[str], vocab_size: int, folder: Path) -> sentencepiece.SentencePieceProcessor:
    """Returns a sentencepiece BPE that loses nothing either: no normalization, bytes for what it does not know."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "peer"),
        vocab_size=vocab_size,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.9995,
        hard_vocab_limit=False,
        num_threads=2,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "peer.model"))


def measure(contestants: dict[str, Encode], texts: list[str], rounds: int) -> dict[str, tuple[float, float]]:
    """Returns the median seconds of the clock and of all processors that each contestant takes for the texts."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, encode in contestants.items():
            clock, processor = time.perf_counter(), time.process_time()
            encode(texts)
            taken[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {
        name: (statistics.median(clock for clock, _ in times), statistics.median(used for _, used in times))
        for name, times in taken.items()
    }


def timed(doing: Callable[[], object]) -> tuple[object, float, float]:
    """Returns what `doing` returns, and the seconds it took of the clock and of all processors."""
    clock, processor = time.perf_counter(), time.process_time()
    result = doing()
    return result, time.perf_counter() - clock, time.process_time() - processor


def main(
    tokenizer: Annotated[str, typer.Argument(help="Folder of a tokenizer of `kakehashi tokenizer train`.")],
    files: Annotated[list[str], typer.Argument(help="Texts to encode and train on: txt, tsv, jsonl, … files.")],
    column: Annotated[list[str], typer.Option(help="Columns of the tables among FILES.")] = ["text"],  # noqa: B006
    every: Annotated[int, typer.Option(min=1, help="Take every N-th text.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Encode this often; the table holds medians.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each contestant.")] = 2,
    train: Annotated[bool, typer.Option(help="Time training too.")] = True,
) -> None:
    """Print one row for each contestant."""
    # Read once by the thread pool of `tokenizers`, when it first encodes a batch.
    os.environ.update(RAYON_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="true")
    ours = load_tokenizer(tokenizer)
    texts = list(islice(iterate_training_texts(files, column), 0, None, every))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    peer = as_tiktoken(ours)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        pieces, *peer_training = timed(lambda: train_sentencepiece(texts, len(ours), Path(folder)))
    contestants: dict[str, Encode] = {
        "kakehashi in tokenizers": lambda batch: [
            encoding.ids for encoding in ours.backend_tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        ],
        "the same in tiktoken": lambda batch: peer.encode_ordinary_batch(batch, num_threads=threads),
        "sentencepiece": lambda batch: pieces.encode(batch, num_threads=threads),
    }
    ours.backend_tokenizer.encode_special_tokens = True
    ids = {name: encode(texts) for name, encode in contestants.items()}
    reference = ids["kakehashi in tokenizers"]
    equal = sum(a == b for a, b in zip(reference, ids["the same in tiktoken"], strict=True))
    table = Table(f"{megabytes:.1f} MB, {len(texts):,} texts, {threads} threads", show_edge=False)
    for title in ("tokens", "MB/s", "MB per second of processor"):
        table.add_column(title, justify="right")
    for name, (clock, used) in measure(contestants, texts, rounds).items():
        tokens = f"{sum(map(len, ids[name])):,}"
        table.add_row(name, tokens, f"{megabytes / clock:.1f}", f"{megabytes / used:.1f}")
    console.print(table)
    console.print(f"tiktoken gives the same ids for {equal:,} of {len(texts):,} texts")
    if train:
        _, *our_training = timed(
            lambda: train_tokenizer(texts, vocab_size=len(ours), allow_smaller=True, show_progress=False)
        )
        for name, (clock, used) in (("kakehashi", our_training), ("sentencepiece", peer_training)):
            console.print(f"{name} trains in {clock:.1f} s, {used:.1f} s of processor")


if __name__ == "__main__":
    typer.run(main)
