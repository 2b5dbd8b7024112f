"""The tasks that pretraining of an encoder-decoder mixes, and which task each piece of a document gets.

    task          source                              target
    next words    I love </s>                         cats and dogs </s>
    short spans   I <0> cats and <1> </s>             <0> love <1> dogs </s>
    long spans    I <0> </s>                          <0> love cats and dogs </s>

`denoising_tasks` mixes next words with spans of one kind; `ul2_tasks` mixes all three, each announced by a token at
the head of the source, so that a prompt can ask for the one that fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kakehashi.training.objectives import (
    Ids,
    corrupt_spans,
    longest_corruptible_length,
    span_corruption_lengths,
    split_for_next_word,
)

Numbers = NDArray[np.int64]

TASK_TOKENS = ("<|next|>", "<|short|>", "<|long|>")
"""Special tokens that announce a task of `ul2_tasks`."""


@dataclass(frozen=True)
class Task:
    """One way to make a source and a target of a piece of a document.

    Attributes:
        share: How many of the pieces get it, relative to the shares of the other tasks.
        noise_density: Fraction of the tokens to cut out; None predicts the next words instead.
        mean_noise_span_length: Average tokens in a span that is cut out.
        token_id: Stands at the head of the source; None for none.
    """

    share: float
    noise_density: float | None = None
    mean_noise_span_length: float = 3.0
    token_id: int | None = None

    @property
    def is_next_word(self) -> bool:
        """Whether the task predicts how the piece goes on."""
        return self.noise_density is None

    @property
    def extra(self) -> int:
        """Source tokens beside those of the objective."""
        return 0 if self.token_id is None else 1

    def longest_piece(self, max_source_length: int, max_target_length: int) -> int:
        """Returns how many tokens a piece may have for source and target to fit, wherever it is split or cut."""
        room = max_source_length - self.extra
        if self.noise_density is None:
            # Each side holds all tokens but one at the most, and `</s>`.
            return min(room, max_target_length)
        return longest_corruptible_length(room, max_target_length, self.noise_density, self.mean_noise_span_length)

    def make_pair(
        self,
        ids: Sequence[int] | Ids,
        generator: np.random.Generator,
        *,
        split: int | None,
        sentinel_token_ids: Sequence[int],
        eos_token_id: int,
    ) -> tuple[Ids, Ids]:
        """Returns a source and its target.

        Args:
            ids: The piece, shape (length,), without special tokens.
            generator: Draws the spans, or the split where none is given.
            split: Tokens of the context for next words; None draws them.
            sentinel_token_ids: Ids of the sentinels, in order.
            eos_token_id: Closes both.
        """
        if self.noise_density is None:
            source, target = split_for_next_word(ids, generator, eos_token_id=eos_token_id, split=split)
        else:
            source, target = corrupt_spans(
                ids,
                generator,
                sentinel_token_ids=sentinel_token_ids,
                eos_token_id=eos_token_id,
                noise_density=self.noise_density,
                mean_noise_span_length=self.mean_noise_span_length,
            )
        return (source if self.token_id is None else np.insert(source, 0, self.token_id)), target


def denoising_tasks(
    next_word_ratio: float = 0.5, noise_density: float = 0.15, mean_noise_span_length: float = 3.0
) -> tuple[Task, ...]:
    """Returns next-word prediction for a share of the pieces and span corruption for the others.

    Args:
        next_word_ratio: Share of the pieces that predict what follows, 0 to 1.
        noise_density: Fraction of the tokens that span corruption cuts out.
        mean_noise_span_length: Average tokens in a span.

    Raises:
        ValueError: The ratio is not between 0 and 1.
    """
    if not 0 <= next_word_ratio <= 1:
        raise ValueError(f"`next_word_ratio` must be between 0 and 1, but it is {next_word_ratio}.")
    tasks = (Task(next_word_ratio), Task(1 - next_word_ratio, noise_density, mean_noise_span_length))
    return tuple(task for task in tasks if task.share)


def ul2_tasks(token_ids: Sequence[int]) -> tuple[Task, ...]:
    """Returns the mixture of denoisers: next words, few short spans, and spans that are many or long.

    Args:
        token_ids: Ids of `TASK_TOKENS`, in their order.

    Source:
        "UL2: Unifying Language Learning Paradigms" (Tay et al., 2022), table 2; there next words always begin in the
        last quarter, here anywhere, and our longest spans have 32 tokens instead of 64, as our pieces are short.
    """
    next_token, short_token, long_token = token_ids
    return (
        Task(1 / 3, token_id=next_token),
        *(Task(1 / 6, 0.15, length, short_token) for length in (3.0, 8.0)),
        *(
            Task(1 / 12, density, length, long_token)
            for density, length in ((0.5, 3.0), (0.5, 8.0), (0.15, 32.0), (0.5, 32.0))
        ),
    )


def draw_tasks(lengths: Numbers, tasks: Sequence[Task], generator: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Returns the task of each piece and where those that predict next words are split.

    Args:
        lengths: Tokens of each piece, shape (pieces,).
        tasks: Tasks to choose from.
        generator: Draws both.

    Returns:
        Number of the task and tokens of the context, both of shape (pieces,); the latter means nothing to other tasks.
    """
    shares = np.array([task.share for task in tasks])
    chosen = generator.choice(len(tasks), size=len(lengths), p=shares / shares.sum())
    # A piece of one token has no context.
    splits = np.where(lengths > 1, generator.integers(1, np.maximum(lengths, 2)), 0)
    return chosen, splits


def pair_lengths(lengths: Numbers, chosen: Numbers, splits: Numbers, tasks: Sequence[Task]) -> Numbers:
    """Returns how long source and target of each piece will be, shape (pieces, 2); chance has no part in it.

    Args:
        lengths: Tokens of each piece, shape (pieces,).
        chosen: Task of each piece, as `draw_tasks` gives it.
        splits: Context of each piece, as `draw_tasks` gives it.
        tasks: The tasks.
    """
    pairs = np.stack((splits + 1, lengths - splits + 1), axis=1)
    for number, task in enumerate(tasks):
        mine = chosen == number
        if task.noise_density is not None and mine.any():
            kinds, places = np.unique(lengths[mine], return_inverse=True)
            density, span_length = task.noise_density, task.mean_noise_span_length
            pairs[mine] = np.array([span_corruption_lengths(int(kind), density, span_length) for kind in kinds])[
                places
            ]
        pairs[mine, 0] += task.extra
    return pairs


def exchange_splits(splits: Numbers, lengths: Numbers, generator: np.random.Generator) -> Numbers:
    """Returns new splits for the pieces of a packed row that leave its source and its target as long as they are.

    What one piece gives to its context, another takes from its own; drawn with two pieces of 5 tokens:

        splits    1 | 4   and   4 | 1          source 5 tokens, target 5 tokens
        another   3 | 2   and   2 | 3          the same

    So a row that was packed once sees other contexts in every epoch.

    Args:
        splits: Context tokens of each piece, shape (pieces,).
        lengths: Tokens of each piece, shape (pieces,).
        generator: Draws who exchanges how much with whom.
    """
    splits = splits.copy()
    order = generator.permutation(np.flatnonzero(lengths > 1))
    for giver, taker in zip(order, np.roll(order, 1), strict=True):
        if giver == taker:
            continue
        least = max(1 - splits[taker], splits[giver] - lengths[giver] + 1)
        most = min(lengths[taker] - 1 - splits[taker], splits[giver] - 1)
        amount = generator.integers(least, most + 1)
        splits[giver] -= amount
        splits[taker] += amount
    return splits
