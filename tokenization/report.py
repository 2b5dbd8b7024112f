"""One page about a vocabulary: how long its entries are, which languages they serve, how merges build them.

The page is a single HTML file with its drawings inside: it needs no network and no script.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment
from transformers import PreTrainedTokenizerBase

from kakehashi.tokenization.compression import Compression
from kakehashi.tokenization.efficiency import Efficiency
from kakehashi.tokenization.merges import Trace, stage_of, trace_merges
from kakehashi.tokenization.peers import count_tokens
from kakehashi.tokenization.scripts import NO_LETTERS, count_scripts
from kakehashi.tokenization.vocabulary import (
    Entry,
    count_uses,
    crosses_sentence_end,
    list_entries,
    mixes_digits_and_letters,
    unused_merges,
)

DEFAULT_EXAMPLES = ("吾輩は猫である。", "I love cats.", "データベースを更新しました。", "unbelievable 🐈‍⬛")

_LONGEST_SHOWN = 12
_NUM_BINS = 10
_STAGES = ("part of a character", "one character", "2 or 3 characters", "4 or more characters")


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram."""

    label: str
    number: int


@dataclass(frozen=True)
class Coverage:
    """How well the vocabulary knows the characters of a set."""

    name: str
    num_characters: int
    num_whole: int
    """Characters that are one token."""
    tokens_per_character: float
    """Mean over the characters, each alone."""


@dataclass(frozen=True)
class TextCheck:
    """What a reading of texts adds to the page."""

    rows: Mapping[str, Compression]
    num_merges: int
    unused: Sequence[Entry]


def build_report(
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    *,
    examples: Sequence[str] = DEFAULT_EXAMPLES,
    open_texts: Callable[[], Iterable[str]] | None = None,
) -> str:
    """Returns the page as HTML.

    Args:
        tokenizer: one with a byte-level BPE.
        name: what to call it in the title.
        examples: texts whose merges are shown step by step.
        open_texts: opens the texts to measure on, once for each of two readings; None leaves that section out.

    Raises:
        ValueError: if the tokenizer is something else than a byte-level BPE.
    """
    entries = list_entries(tokenizer)
    merges = [entry for entry in entries if entry.kind == "merge"]
    traces = [trace_merges(tokenizer, example) for example in examples]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = (files("kakehashi.tokenization") / "report.html").read_text("utf-8")
    return environment.from_string(template).render(
        name=name,
        kinds=Counter(entry.kind for entry in entries),
        num_entries=len(entries),
        lengths_in_characters=_histogram(_length_in_characters(entry) for entry in merges),
        lengths_in_bytes=_histogram(str(len(entry.content)) for entry in merges),
        stages=_STAGES,
        bins=_stages_by_bin(merges),
        longest=_longest_by_script(merges),
        coverage=[_measure_coverage(tokenizer, title, characters) for title, characters in character_sets().items()],
        crossing=[entry.text for entry in merges if entry.text and crosses_sentence_end(entry.text)],
        mixing=[entry.text for entry in merges if entry.text and mixes_digits_and_letters(entry.text)],
        check=_check_texts(tokenizer, entries, open_texts) if open_texts else None,
        traces=list(zip(examples, traces, strict=True)),
        stage_of=stage_of,
        show=show_piece,
        bytes_of=_bytes_of,
    )


def show_piece(piece: bytes) -> str:
    """Returns a piece as it reads, its spaces visible; a part of a character as its bytes in hexadecimal."""
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError:
        return f"⟨{piece.hex(' ')}⟩"
    shown = text.replace(" ", "␣")
    return "".join(character if character.isprintable() else f"⟨U+{ord(character):04X}⟩" for character in shown)


@functools.cache
def character_sets() -> dict[str, str]:
    """Returns name to characters of the sets whose coverage is measured."""
    return {
        "ASCII": "".join(map(chr, range(0x20, 0x7F))),
        "Latin with accents (Latin-1)": "".join(chr(code) for code in range(0xC0, 0x100) if code not in (0xD7, 0xF7)),
        "Hiragana": "".join(map(chr, range(0x3041, 0x3097))),
        "Katakana": "".join(map(chr, range(0x30A1, 0x30FB))),
        # Rows of JIS X 0208: level 1 holds the common kanji, level 2 the others.
        "Kanji of JIS level 1": _kanji(range(16, 48)),
        "Kanji of JIS level 2": _kanji(range(48, 85)),
        "Japanese punctuation": "、。・「」『』（）【】〜ー！？：；",
        "Cyrillic": "".join(map(chr, range(0x410, 0x450))),
        "Greek": "".join(chr(code) for code in range(0x391, 0x3CA) if code != 0x3A2),
        "Hangul syllables": "".join(map(chr, range(0xAC00, 0xD7A4, 28))),
        "Emoji": "".join(map(chr, range(0x1F600, 0x1F650))),
    }


def _kanji(rows: Iterable[int]) -> str:
    codes = (bytes((0xA0 + row, 0xA0 + cell)) for row in rows for cell in range(1, 95))
    return "".join(code.decode("euc_jp", errors="ignore") for code in codes)


def _measure_coverage(tokenizer: PreTrainedTokenizerBase, name: str, characters: str) -> Coverage:
    counts = count_tokens(tokenizer, list(characters))
    return Coverage(name, len(counts), counts.count(1), sum(counts) / len(counts))


def _length_in_characters(entry: Entry) -> str:
    return "part" if entry.text is None else str(len(entry.text))


def _histogram(lengths: Iterable[str]) -> list[Bar]:
    counts = Counter(lengths)
    numbers = [int(length) for length in counts if length != "part"]
    bars = [Bar("part", counts["part"])] if counts["part"] else []
    return bars + [Bar(str(length), counts[str(length)]) for length in range(1, max(numbers, default=0) + 1)]


def _stages_by_bin(merges: Sequence[Entry]) -> list[tuple[str, list[float]]]:
    """Returns the shares of the stages among each tenth of the merges, in the order they were learned."""
    bins = []
    for index in range(_NUM_BINS):
        first, last = (len(merges) * edge // _NUM_BINS for edge in (index, index + 1))
        found = Counter(_stage_of_entry(entry) for entry in merges[first:last])
        if found:
            shares = [found[stage] / (last - first) for stage in _STAGES]
            bins.append((f"{first + 1:,} to {last:,}", shares))
    return bins


def _stage_of_entry(entry: Entry) -> str:
    if entry.text is None:
        return _STAGES[0]
    length = len(entry.text.strip())
    return _STAGES[1] if length <= 1 else _STAGES[2] if length <= 3 else _STAGES[3]


def _longest_by_script(merges: Sequence[Entry]) -> dict[str, tuple[int, list[Entry]]]:
    """Returns for each script how many entries are mostly in it, and the longest of these."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in merges:
        if entry.text is not None:
            scripts = count_scripts(entry.text)
            groups[scripts.most_common(1)[0][0] if scripts else NO_LETTERS].append(entry)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return {
        script: (len(found), sorted(found, key=lambda entry: (-len(entry.text or ""), entry.id))[:_LONGEST_SHOWN])
        for script, found in ordered
    }


def _check_texts(
    tokenizer: PreTrainedTokenizerBase, entries: Sequence[Entry], open_texts: Callable[[], Iterable[str]]
) -> TextCheck:
    measured = Efficiency({"": functools.partial(count_tokens, tokenizer)}, num_examples=0).read(open_texts())
    uses = count_uses(tokenizer, open_texts())
    rows = {language: row[""] for language, row in measured.by_language.items()}
    num_merges = sum(entry.kind == "merge" for entry in entries)
    return TextCheck(rows, num_merges, unused_merges(entries, uses))


def _bytes_of(trace: Trace) -> list[bytes]:
    return [bytes([byte]) for byte in trace.content]
