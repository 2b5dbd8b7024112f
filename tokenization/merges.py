"""How byte pair encoding builds the tokens of a text, one merge after another.

It starts from bytes and joins, again and again, the two neighbours whose merge was learned first, which is the one
that was most frequent in training. So characters are built before parts of words, and parts before words; what
training has never seen stays in smaller pieces.

```
大好き    e5 a4 a7 e5 a5 bd e3 81 8d      bytes
          大 e5 a5 bd き                    characters
          大 好き                           a part of a word
          大好き                            the whole piece
```
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from kakehashi.tokenization.pretokenization import token_bytes
from kakehashi.tokenization.vocabulary import backend_content


@dataclass(frozen=True)
class Merge:
    """One step: every neighbouring `left` and `right` of the piece were joined."""

    number: int
    """Place among all merges, counted from 1; a small number means frequent in training."""
    left: bytes
    right: bytes
    pieces: tuple[bytes, ...]
    """What the pre-token consists of afterwards."""

    @property
    def joined(self) -> bytes:
        """The entry that the step made."""
        return self.left + self.right


@dataclass(frozen=True)
class Trace:
    """A pre-token and how its tokens came about."""

    content: bytes
    merges: tuple[Merge, ...]
    tokens: tuple[bytes, ...]


def trace_merges(tokenizer: PreTrainedTokenizerBase, text: str) -> list[Trace]:
    """Returns for each pre-token of `text` the merges that made its tokens, in order.

    Args:
        tokenizer: one with a byte-level BPE.
        text: special tokens spelled in it are read as text.

    Raises:
        ValueError: if the tokenizer is something else than a byte-level BPE.
    """
    model = backend_content(tokenizer)["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise ValueError(f"`tokenizer` must be a byte-level BPE to show its merges, got {model['type']}.")
    ranks = {tuple(pair): number for number, pair in enumerate(model["merges"], start=1)}
    whole = model["vocab"] if model.get("ignore_merges") else {}
    traces = []
    for symbols, is_added in _split(tokenizer, text):
        if is_added:
            traces.append(Trace(symbols.encode(), (), (symbols.encode(),)))
        elif symbols in whole:
            traces.append(Trace(token_bytes(symbols), (), (token_bytes(symbols),)))
        else:
            traces.append(_trace(symbols, ranks))
    return traces


def stage_of(joined: bytes, whole: bytes) -> str:
    """Returns what a merge has arrived at: a part of a character, a character, a part of a word or the whole piece.

    Args:
        joined: what the merge made.
        whole: the pre-token it is in.
    """
    try:
        text = joined.decode("utf-8")
    except UnicodeDecodeError:
        return "part of a character"
    if len(text) == 1:
        return "character"
    return "word" if joined == whole else "subword"


def _split(tokenizer: PreTrainedTokenizerBase, text: str) -> Iterator[tuple[str, bool]]:
    """Yields the pre-tokens, one printable character for each byte, and the added tokens between them."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if not token.special}
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    start = 0
    found = [
        span for index, span in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True) if index in added
    ]
    for left, right in [*found, (len(text), len(text))]:
        between = text[start:left]
        if backend.normalizer is not None:
            between = backend.normalizer.normalize_str(between)
        yield from ((symbols, False) for symbols, _ in backend.pre_tokenizer.pre_tokenize_str(between) if symbols)
        if right > left:
            yield text[left:right], True
        start = right


def _trace(symbols: str, ranks: dict[tuple[str, ...], int]) -> Trace:
    pieces: Sequence[str] = list(symbols)
    merges = []
    while True:
        number, pair = min(((ranks[pair], pair) for pair in pairwise(pieces) if pair in ranks), default=(0, None))
        if pair is None:
            break
        pieces = _join(pieces, pair)
        left, right = map(token_bytes, pair)
        merges.append(Merge(number, left, right, tuple(map(token_bytes, pieces))))
    return Trace(token_bytes(symbols), tuple(merges), tuple(map(token_bytes, pieces)))


def _join(pieces: Sequence[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    # A pair is joined from the left: in `aaa` the first two, and what was just joined is never the pair's left half.
    index = 0
    while index < len(pieces):
        if tuple(pieces[index : index + 2]) == pair:
            joined.append(pair[0] + pair[1])
            index += 2
        else:
            joined.append(pieces[index])
            index += 1
    return joined
