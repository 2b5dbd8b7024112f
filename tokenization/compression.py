"""How many tokens a tokenizer needs for given texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerBase

from kakehashi.tokenization.peers import count_tokens

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

    @classmethod
    def of(cls, text: str, num_tokens: int) -> "Compression":
        """Returns the counts of one text."""
        return cls(1, len(text), len(text.encode("utf-8")), num_tokens)

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
        for text, num_tokens in zip(batch, count_tokens(tokenizer, batch), strict=True):
            total += Compression.of(text, num_tokens)
    return total
