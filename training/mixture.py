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

from kakehashi.training.objectives import (
    corrupt_spans,
    draw_splits,
    longest_corruptible_length,
    span_corruption_lengths,
    split_for_next_word,
)
from kakehashi.training.sequences import Numbers, Sequences, concatenate

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

    def count_spans(self, length: int) -> int:
        """Returns how many spans are cut out of a piece, each of which needs a sentinel.

        Args:
            length: Tokens of the piece.
        """
        if self.noise_density is None:
            return 0
        source, target = span_corruption_lengths(length, self.noise_density, self.mean_noise_span_length)
        # Both sides together hold the tokens of the piece, and each of them every sentinel and `</s>`.
        return int(source + target - length) // 2 - 1

    def make_pairs(
        self,
        pieces: Sequences,
        generator: np.random.Generator,
        *,
        splits: Numbers,
        sentinel_token_ids: Sequence[int],
        eos_token_id: int,
    ) -> tuple[Sequences, Sequences]:
        """Returns sources and their targets.

        Args:
            pieces: Pieces of documents, without special tokens.
            generator: Draws the spans.
            splits: Tokens of each context for next words, shape (pieces,).
            sentinel_token_ids: Ids of the sentinels, in order.
            eos_token_id: Closes both.
        """
        if self.noise_density is None:
            sources, targets = split_for_next_word(pieces, splits, eos_token_id=eos_token_id)
        else:
            sources, targets = corrupt_spans(
                pieces,
                generator,
                sentinel_token_ids=sentinel_token_ids,
                eos_token_id=eos_token_id,
                noise_density=self.noise_density,
                mean_noise_span_length=self.mean_noise_span_length,
            )
        return (sources if self.token_id is None else sources.prepend(self.token_id)), targets


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
    return chosen, draw_splits(lengths, generator)


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
        if task.noise_density is not None:
            sides = span_corruption_lengths(lengths[mine], task.noise_density, task.mean_noise_span_length)
            pairs[mine] = np.stack(sides, axis=1)
        pairs[mine, 0] += task.extra
    return pairs


def make_pairs(
    pieces: Sequences,
    generator: np.random.Generator,
    tasks: Sequence[Task],
    chosen: Numbers,
    splits: Numbers,
    *,
    sentinel_token_ids: Sequence[int],
    eos_token_id: int,
) -> tuple[Sequences, Sequences]:
    """Returns a source and a target for each piece, by the task that it was given.

    Args:
        pieces: Pieces of documents, without special tokens.
        generator: Draws the spans.
        tasks: The mixture.
        chosen: Task of each piece, as `draw_tasks` gives it.
        splits: Context of each piece, as `draw_tasks` gives it.
        sentinel_token_ids: Ids of the sentinels, in order.
        eos_token_id: Closes sources and targets.
    """
    by_task = [np.flatnonzero(chosen == number) for number in range(len(tasks))]
    pairs = [
        task.make_pairs(
            pieces.take(mine),
            generator,
            splits=splits[mine],
            sentinel_token_ids=sentinel_token_ids,
            eos_token_id=eos_token_id,
        )
        for task, mine in zip(tasks, by_task, strict=True)
    ]
    # Back into the order of the pieces.
    order = np.argsort(np.concatenate(by_task))
    sources, targets = (concatenate(side).take(order) for side in zip(*pairs, strict=True))
    return sources, targets


def exchange_splits(splits: Numbers, lengths: Numbers, rows: Numbers, generator: np.random.Generator) -> Numbers:
    """Returns new splits for the pieces of packed rows that leave each source and each target as long as it is.

    What one piece gives to its context, another takes from its own; drawn with two pieces of 5 tokens:

        splits    1 | 4   and   4 | 1          source 5 tokens, target 5 tokens
        another   3 | 2   and   2 | 3          the same

    So a row that was packed once sees other contexts in every epoch.

    Args:
        splits: Context tokens of each piece, shape (pieces,).
        lengths: Tokens of each piece, shape (pieces,).
        rows: Number of the row that each piece is in, shape (pieces,).
        generator: Draws who exchanges how much with whom.
    """
    splits = splits.copy()
    movable = np.flatnonzero(lengths > 1)
    # Rows stay together; within them pieces stand in an order at random, and neighbours exchange.
    order = movable[np.argsort(rows[movable] + generator.random(len(movable)))]
    for first in (0, 1):
        givers, takers = order[first:-1:2], order[first + 1 :: 2]
        in_one_row = rows[givers] == rows[takers]
        givers, takers = givers[in_one_row], takers[in_one_row]
        least = np.maximum(1 - splits[takers], splits[givers] - lengths[givers] + 1)
        most = np.minimum(lengths[takers] - 1 - splits[takers], splits[givers] - 1)
        amounts = generator.integers(least, most + 1)
        splits[givers] -= amounts
        splits[takers] += amounts
    return splits
