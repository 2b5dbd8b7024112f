"""Sources of unequal size, brought closer together before a vocabulary is trained on them.

A vocabulary goes to whatever there is most of. With exponent `a`, a source of `n` bytes gets a share proportional to
`n ** a` instead of `n`, by leaving texts of the larger sources out; no text is read twice into the training.

```
bytes of the sources        8 M    2 M     exponent 1    share 4 : 1     kept 100 %   100 %
                                           exponent 0.5  share 2 : 1     kept  50 %   100 %
                                           exponent 0    share 1 : 1     kept  25 %   100 %
```
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

Source = Callable[[], Iterable[str]]
"""Opens a source anew: it is read once to learn its size and once to take its texts."""


def balance_sources(sources: Sequence[Source], exponent: float, *, seed: int = 0) -> Iterator[str]:
    """Yields the texts of the sources, one source after another, the larger ones thinned out at random.

    Args:
        sources: what to read; each is opened twice.
        exponent: 1 takes everything, 0 as much of each source as the smallest has.
        seed: the same seed chooses the same texts.

    Raises:
        ValueError: if `exponent` is not between 0 and 1, or a source holds no text.

    Source:
        Conneau et al. 2020 section 3.1 (exponent over languages); ours drops texts and repeats none.
    """
    shares = keep_shares([_count_bytes(source) for source in sources], exponent)
    rng = random.Random(seed)
    for source, share in zip(sources, shares, strict=True):
        for text in source():
            if rng.random() < share:
                yield text


def keep_shares(sizes: Sequence[int], exponent: float) -> list[float]:
    """Returns the fraction of each source to keep, in (0, 1]; the smallest is kept whole.

    Args:
        sizes: bytes of each source.
        exponent: as for `balance_sources`.

    Raises:
        ValueError: if `exponent` is not between 0 and 1, or a size is 0.
    """
    if not 0.0 <= exponent <= 1.0:
        raise ValueError(f"`exponent` of the balance must be between 0 and 1, got {exponent}.")
    if 0 in sizes:
        raise ValueError(f"every source must hold text to be balanced, but source number {sizes.index(0)} holds none.")
    return [(size / min(sizes)) ** (exponent - 1.0) for size in sizes]


def _count_bytes(source: Source) -> int:
    # A lone surrogate is refused with its place when the text is trained on; here it must only not stop the count.
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in source())
