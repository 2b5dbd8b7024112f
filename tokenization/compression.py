"""How many tokens a tokenizer needs for given texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerBase

_BATCH_SIZE = 1000


@dataclass(frozen=True)
class Compression:
    """What went in and how many tokens came out, special tokens left out."""

    num_texts: int = 0
    num_characters: int = 0
    num_bytes: int = 0
    num_tokens: int = 0

    @property
    def characters_per_token(self) -> float:
        """Mean length of a token in characters; 0 if there are no tokens."""
        return self.num_characters / self.num_tokens if self.num_tokens else 0.0

    @property
    def bytes_per_token(self) -> float:
        """Mean length of a token in UTF-8 bytes; 0 if there are no tokens."""
        return self.num_bytes / self.num_tokens if self.num_tokens else 0.0

    def __add__(self, other: "Compression") -> "Compression":
        """Returns the counts of both sets of texts together."""
        return Compression(
            self.num_texts + other.num_texts,
            self.num_characters + other.num_characters,
            self.num_bytes + other.num_bytes,
            self.num_tokens + other.num_tokens,
        )


def measure_compression(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Compression:
    """Returns the counts over `texts`, each encoded alone; special tokens spelled in them count as text.

    Args:
        tokenizer: any tokenizer of Transformers.
        texts: read once, in batches.
    """
    total = Compression()
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH_SIZE)):
        total += _measure_batch(tokenizer, batch)
    return total


def _measure_batch(tokenizer: PreTrainedTokenizerBase, batch: list[str]) -> Compression:
    encoded = tokenizer(
        batch, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    )["input_ids"]
    return Compression(
        num_texts=len(batch),
        num_characters=sum(map(len, batch)),
        num_bytes=sum(len(text.encode("utf-8")) for text in batch),
        num_tokens=sum(map(len, encoded)),
    )
