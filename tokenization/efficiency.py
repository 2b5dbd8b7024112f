"""What several tokenizers make of the same texts, language by language, and which texts suit one of them best.

The texts are read once, whoever counts: they may come from a pipe.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice

from kakehashi.tokenization.chat import check_scalar_values
from kakehashi.tokenization.compression import Compression
from kakehashi.tokenization.peers import TokenCounter
from kakehashi.tokenization.scripts import language_of

_BATCH_SIZE = 1000
# A shorter text says nothing: `OK` is one token, and nothing could be better.
_MIN_CHARACTERS = 12


class Efficiency:
    """The counts of several tokenizers over one reading of the texts.

    Attributes:
        by_language: language, then name of a tokenizer, to the counts; languages in the order they were met.
        total: name of a tokenizer to the counts over all texts.
    """

    def __init__(self, counters: Mapping[str, TokenCounter], *, num_examples: int = 3) -> None:
        """Prepares to count.

        Args:
            counters: name to tokenizer; the first one chooses the example texts.
            num_examples: how many of the most and of the least efficient texts to keep for each language.

        Raises:
            ValueError: if there is no tokenizer.
        """
        if not counters:
            raise ValueError("`counters` must hold at least one tokenizer, got none.")
        self.by_language: dict[str, dict[str, Compression]] = {}
        self.total = {name: Compression() for name in counters}
        self._counters = counters
        self._num_examples = num_examples
        self._best: dict[str, _Keeper] = defaultdict(lambda: _Keeper(num_examples))
        self._worst: dict[str, _Keeper] = defaultdict(lambda: _Keeper(num_examples))

    def read(self, texts: Iterable[str]) -> "Efficiency":
        """Counts `texts`, in batches, and returns itself.

        Raises:
            ValueError: if a text holds a lone surrogate.
        """
        remaining = iter(texts)
        while batch := list(islice(remaining, _BATCH_SIZE)):
            start = next(iter(self.total.values())).num_texts
            for index, text in enumerate(batch, start=start + 1):
                check_scalar_values(text, f"text number {index}")
            self._count(batch)
        return self

    def most_efficient(self, language: str) -> list[tuple[float, str]]:
        """Returns the texts of a language with most characters per token for the first tokenizer, best first."""
        return self._best[language].in_order()

    def least_efficient(self, language: str) -> list[tuple[float, str]]:
        """Returns the texts of a language with fewest characters per token for the first tokenizer, worst first."""
        return [(-ratio, text) for ratio, text in self._worst[language].in_order()]

    def _count(self, batch: list[str]) -> None:
        languages = [language_of(text) for text in batch]
        for position, (name, counter) in enumerate(self._counters.items()):
            for text, language, num_tokens in zip(batch, languages, counter(batch), strict=True):
                counted = Compression.of(text, num_tokens)
                self.total[name] += counted
                row = self.by_language.setdefault(language, dict.fromkeys(self._counters, Compression()))
                row[name] += counted
                if position == 0 and len(text) >= _MIN_CHARACTERS:
                    self._best[language].offer(counted.characters_per_token, text)
                    self._worst[language].offer(-counted.characters_per_token, text)


class _Keeper:
    """The few texts with the highest score, each once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, str]] = []

    def offer(self, score: float, text: str) -> None:
        if len(self._heap) >= self._size and (not self._heap or (score, text) <= self._heap[0]):
            return
        if (score, text) in self._heap:
            return
        heapq.heappush(self._heap, (score, text))
        if len(self._heap) > self._size:
            heapq.heappop(self._heap)

    def in_order(self) -> list[tuple[float, str]]:
        return sorted(self._heap, reverse=True)
