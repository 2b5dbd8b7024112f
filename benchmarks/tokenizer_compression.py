"""Train one tokenizer for each way to split text, and count its tokens on held-out sentence pairs.

    python benchmarks/tokenizer_compression.py --validation valid.tsv.xz --column en --column ja \
        train.tsv.xz text.en.txt.xz text.ja.txt.xz

Prints the table of docs/tokenizer.md. One training per split: a smaller vocabulary is the first merges of a larger.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import typer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from kakehashi.commands.texts import iterate_training_texts
from kakehashi.tokenization import train_tokenizer
from kakehashi.tokenization.compression import Compression, measure_compression
from kakehashi.tokenization.pretokenization import split_pattern
from kakehashi.training.documents import iterate_texts

SCRIPT_SPLIT = (
    r" ?[^\P{L}ぁ-ヿ一-鿿]+(?:['’][^\P{L}ぁ-ヿ一-鿿]+)*|[一-鿿々]+|[ァ-ヿ]+|[ぁ-ゟー]+"
    r"|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
GPT4_LIKE_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+(?:['’]\p{L}+)*"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def change(old: str, new: str) -> str:
    """Returns the default pattern with one part exchanged; a part that is not there is our mistake."""
    pattern = split_pattern()
    assert pattern.count(old) == 1, old
    return pattern.replace(old, new)


WORD, KANJI_PHRASE, KATAKANA_PHRASE, HIRAGANA = split_pattern().split("|")[:4]
PUNCTUATION = split_pattern().split("|")[6]
LETTERS = WORD[2 : WORD.index("(?:['’]")]
CONTRACTED = WORD[WORD.index("(?:['’]") :]
LOWER, UPPER = (LETTERS.replace(r"\P{L}", rf"\P{{L}}\p{{{case}}}") for case in ("Lu", "Ll"))

PATTERNS = {
    "default": split_pattern(),
    "digits one by one": split_pattern(digits=1),
    "digits by three": split_pattern(digits=3),
    "space before digits": split_pattern(space_before_digits=True),
    "contractions apart": split_pattern(contractions=False),
    "kanji and katakana joined": split_pattern(join_katakana=True),
    "、 and 。 with their phrase": split_pattern(attach_punctuation=True),
    "at most three hiragana with a phrase": change(
        f"{KANJI_PHRASE}|{KATAKANA_PHRASE}", f"{KANJI_PHRASE[:-1]}{{0,3}}|{KATAKANA_PHRASE[:-1]}{{0,3}}"
    ),
    "お and ご with the kanji after them": change(KANJI_PHRASE, f"[おご]?{KANJI_PHRASE}").replace(
        f"|{HIRAGANA}", f"|(?:(?![おご]{KANJI_PHRASE[: KANJI_PHRASE.index(']+') + 1]}){HIRAGANA[:-1]})+"
    ),
    "katakana without the hiragana after it": change(
        KATAKANA_PHRASE, KATAKANA_PHRASE[: KATAKANA_PHRASE.index("]+") + 2]
    ),
    "spaces apart": change(WORD, WORD[2:]).replace(PUNCTUATION, PUNCTUATION[2:]),
    "capitals inside a word apart": change(WORD, f" ?{UPPER[:-1]}*{LOWER}{CONTRACTED}| ?{UPPER}{CONTRACTED}"),
    "punctuation one by one": change(PUNCTUATION, PUNCTUATION[:-1]),
    "scripts apart": SCRIPT_SPLIT,
    "GPT-4-like": GPT4_LIKE_SPLIT,
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    vocab_size: int
    seconds: float
    counts: list[Compression]

    def __str__(self) -> str:
        tokens = " | ".join(f"{count.num_tokens:,}" for count in self.counts)
        per_character = " | ".join(f"{count.num_tokens / count.num_characters:.3f}" for count in self.counts)
        total = sum(count.num_tokens for count in self.counts)
        return (
            f"| {self.name} | {self.vocab_size:,} | {tokens} | **{total:,}** | {per_character} | {self.seconds:.0f} |"
        )


def print_header(columns: list[str]) -> None:
    titles = ["split", "entries", *(f"{column} tokens" for column in columns), "all"]
    titles += [*(f"{column} tokens/character" for column in columns), "seconds to train"]
    print("| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), sep="\n")


def take_first_entries(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> PreTrainedTokenizerFast:
    """Returns what training to the smaller `vocab_size` gives: merges are chosen one after another."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    dropped = len(tokenizer) - vocab_size
    model = content["model"]
    model["vocab"] = {token: index for token, index in model["vocab"].items() if index < vocab_size}
    model["merges"] = model["merges"][: len(model["merges"]) - dropped]
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)))


def measure_split(name: str, texts: Iterator[str], vocab_sizes: list[int], held_out: list[list[str]]) -> list[Row]:
    start = time.perf_counter()
    largest = train_tokenizer(texts, vocab_size=max(vocab_sizes), pattern=PATTERNS[name])
    seconds = time.perf_counter() - start
    rows = []
    for vocab_size in sorted(vocab_sizes):
        tokenizer = take_first_entries(largest, vocab_size)
        counts = [measure_compression(tokenizer, texts) for texts in held_out]
        rows.append(Row(name, vocab_size, seconds, counts))
    return rows


def main(
    files: Annotated[list[str], typer.Argument(help="Training texts: txt, tsv, jsonl, … files.")],
    validation: Annotated[str, typer.Option(help="File with the held-out texts.")],
    column: Annotated[list[str], typer.Option(help="Columns of the tables among FILES and of the validation file.")],
    vocab_size: Annotated[list[int], typer.Option(help="Sizes to measure.")] = [16_000, 32_000],  # noqa: B006
    split: Annotated[list[str], typer.Option(help=f"Splits to measure, of: {', '.join(PATTERNS)}.")] = [],  # noqa: B006
    every: Annotated[int, typer.Option(min=1, help="Train on every N-th text, to compare splits quickly.")] = 1,
    balance: Annotated[float, typer.Option(help="As of `kakehashi tokenizer train`.")] = 1.0,
) -> None:
    """Print one table row for each split and vocabulary size."""
    held_out = [list(iterate_texts(validation, name)) for name in column]
    print_header(column)
    for name in split or PATTERNS:
        texts = itertools.islice(iterate_training_texts(files, column, balance=balance), 0, None, every)
        print(*measure_split(name, texts, vocab_size, held_out), sep="\n")
        sys.stdout.flush()


if __name__ == "__main__":
    typer.run(main)
