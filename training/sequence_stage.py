"""What pretraining and instruction tuning do alike with their examples: pack them, and repeat their streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedConfig, Seq2SeqTrainingArguments

from kakehashi.modeling import KakehashiConfig
from kakehashi.training.arguments import SequenceStageArguments
from kakehashi.training.console import notify
from kakehashi.training.packing import Measure, pack_examples


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
        num_proc=arguments.preprocessing_workers if arguments.preprocessing_workers > 1 else None,
    )
    room = " + ".join(map(str, packed.budgets))
    filled = f"{packed.efficiency:.1%} of the room used"
    if isinstance(packed.rows, Dataset) and isinstance(examples, Dataset):
        notify(f"packed {len(examples):,} examples into {len(packed.rows):,} rows of {room} tokens, {filled}")
    else:
        notify(f"packing a stream into rows of {room} tokens, at its beginning {filled}")
    return packed.rows


def repeat_stream(examples: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """Returns a stream that begins anew at its end; other examples as they are.

    Trainer would count the passes of a stream whose length it does not know, and lose its place when it resumes.

    Args:
        examples: Examples to train on.
    """
    return examples.repeat(None) if isinstance(examples, IterableDataset) else examples


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
