"""What pretraining and instruction tuning do alike with their examples: pack them, and repeat their streams."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedConfig, Seq2SeqTrainingArguments

from kakehashi.modeling import KakehashiConfig
from kakehashi.training.arguments import SequenceStageArguments
from kakehashi.training.collators import PASS
from kakehashi.training.console import notify
from kakehashi.training.packing import BUFFER_SIZE, Measure, pack_examples


def pack_for_training(
    examples: Dataset | IterableDataset,
    arguments: SequenceStageArguments,
    training_arguments: Seq2SeqTrainingArguments,
    *,
    measure: Measure,
    longest: Sequence[int],
    settings: Any = None,
) -> Dataset | IterableDataset:
    """Packs the training examples and says how full their rows are.

    Args:
        examples: Tokenized examples.
        arguments: `packed_length` and `preprocessing_workers`.
        training_arguments: `seed` decides which examples meet.
        measure: How long the examples are in the batch.
        longest: Most tokens that an example may have on each side.
        settings: What `measure` depends on.
    """
    # Two of the longest sources fit into a row, so that no example leaves a gap that nothing fills.
    row_length = arguments.packed_length or 2 * longest[0]
    packed = pack_examples(
        examples,
        measure,
        row_length,
        longest=longest,
        seed=training_arguments.seed,
        settings=settings,
        num_proc=arguments.num_proc,
    )
    room = " + ".join(map(str, packed.budgets))
    filled = f"{packed.efficiency:.1%} of the room used"
    if isinstance(packed.rows, Dataset) and isinstance(examples, Dataset):
        notify(f"packed {len(examples):,} examples into {len(packed.rows):,} rows of {room} tokens, {filled}")
    else:
        notify(f"packing a stream into rows of {room} tokens, at its beginning {filled}")
    return packed.rows


class EndlessStream(torch.utils.data.IterableDataset):
    """Examples of a stream that begins anew at its end, each time in another order.

        examples  a b c d    yields  c a d b | b c a d | …

    Trainer would count the passes of a stream whose length it does not know, and lose its place when it resumes.

    Args:
        examples: Shuffled examples.
    """

    def __init__(self, examples: IterableDataset) -> None:
        self._examples = examples

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the examples of one pass after the other, with the number of the pass as `PASS`."""
        # A copy: the number of its pass would be one for all workers of the loader, each of which is at another.
        examples = self._examples.with_format(None)
        for number in itertools.count():
            examples.set_epoch(number)
            is_empty = True
            for example in examples:
                is_empty = False
                yield {**example, PASS: number}
            # A worker of the loader for which no file is left has no examples.
            if is_empty:
                return


def repeat_stream(
    examples: Dataset | IterableDataset,
    arguments: SequenceStageArguments,
    training_arguments: Seq2SeqTrainingArguments,
) -> Dataset | EndlessStream:
    """Returns a shuffled stream that begins anew at its end; other examples, which Trainer shuffles, as they are.

    Args:
        examples: Examples to train on, or packed rows of them.
        arguments: `packing`, which has shuffled a stream already.
        training_arguments: `seed` decides the order.
    """
    if isinstance(examples, Dataset):
        return examples
    if not arguments.packing:
        examples = examples.shuffle(training_arguments.seed, buffer_size=BUFFER_SIZE)
    return EndlessStream(examples)


def require_examples(examples: Dataset | IterableDataset) -> None:
    """Raises a ValueError if there is nothing to train on.

    Args:
        examples: Tokenized examples; of a stream the first ones are read.
    """
    is_empty = not len(examples) if isinstance(examples, Dataset) else next(iter(examples), None) is None
    if is_empty:
        raise ValueError("`train_files` must give at least one example, got none")


def require_packable(arguments: SequenceStageArguments, config: PreTrainedConfig) -> None:
    """Raises a ValueError if rows are to be packed for a model that would mix their examples up.

    Args:
        arguments: `packing`.
        config: Configuration of the model.
    """
    if arguments.packing and not isinstance(config, KakehashiConfig):
        raise ValueError(
            "`packing` needs a model that keeps the examples of a row apart by `segment_ids`, as kakehashi models do, "
            f"got a model of type {config.model_type!r}"
        )
