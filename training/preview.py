"""What a run will feed its model, seen on a sample of the rows and in the very batches of the stage.

Each stage turns rows into examples and examples into batches in its own way. Here the same functions do so with a few
thousand rows, so that `kakehashi check` can say how long the texts are, what is cut, and what a step computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
)

from kakehashi.training.arguments import ClassifyArguments, InstructArguments, PretrainArguments, StageArguments
from kakehashi.training.classify import make_loss, name_classes, require_positions
from kakehashi.training.collators import CausalLMCollator, ClassificationCollator, Seq2SeqCollator, TwiceCollator
from kakehashi.training.documents import require_columns
from kakehashi.training.examples import tokenize_classification, tokenize_documents, tokenize_instructions
from kakehashi.training.instruct import pack_conversations
from kakehashi.training.label_names import find_class_names, find_problem_type
from kakehashi.training.label_quality import require_known_metric
from kakehashi.training.length_statistics import drop_lengths
from kakehashi.training.pretrain import (
    AUTO_CLASSES,
    find_tasks,
    longest_piece,
    make_collator,
    pack_pieces,
    require_sentinels,
)
from kakehashi.training.r_drop import require_dropout
from kakehashi.training.sequence_stage import require_examples, require_packable
from kakehashi.training.trainer import LengthGroupedSampler, example_lengths

Batch = dict[str, torch.Tensor]

# No text is as long, so nothing is cut and every length is seen.
_UNCUT = 2**30


@dataclass(frozen=True)
class Preview:
    """A stage on a sample of its rows.

    Attributes:
        auto_class: Auto class of the head.
        examples: Examples as the collator takes them, packed where the recipe packs.
        examples_per_row: How many of them come from one row of data; below 1 where several share one.
        collate: Makes a batch of them.
        lengths: Tokens of each text before anything is cut, for each side.
        limits: Most tokens that are used of a text, by the key that says so.
        is_cut: Whether a longer text loses its end; pretraining makes several pieces of it.
        notes: What else is known of the rows.
    """

    auto_class: Any
    examples: Dataset
    examples_per_row: float
    collate: Callable[[list[Mapping[str, Any]]], Batch]
    lengths: dict[str, NDArray[np.int64]]
    limits: dict[str, int]
    is_cut: bool = True
    notes: list[str] = field(default_factory=list)


def preview_stage(
    arguments: StageArguments,
    training_arguments: Seq2SeqTrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    rows: Dataset,
    *,
    is_whole: bool = False,
) -> Preview:
    """Returns what a stage makes of a sample of its training rows.

    Args:
        arguments: The stage's arguments.
        training_arguments: Trainer's arguments.
        tokenizer: The model's tokenizer.
        config: The model's configuration; of a classifier it takes the labels.
        rows: Some training rows.
        is_whole: Whether they are all of them, so that what they lack is nowhere.

    Raises:
        ValueError: As the stage itself, for what can be known of these rows.
    """
    if isinstance(arguments, PretrainArguments):
        return _preview_pretrain(arguments, training_arguments, tokenizer, config, rows)
    if isinstance(arguments, InstructArguments):
        return _preview_instruct(arguments, training_arguments, tokenizer, config, rows)
    assert isinstance(arguments, ClassifyArguments)
    return _preview_classify(arguments, training_arguments, tokenizer, config, rows, is_whole)


def _preview_pretrain(
    arguments: PretrainArguments,
    training_arguments: Seq2SeqTrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    rows: Dataset,
) -> Preview:
    require_packable(arguments, config)
    tasks = find_tasks(arguments, tokenizer)
    require_sentinels(arguments, tokenizer, tasks)
    require_columns(rows, [arguments.text_column], arguments.train_files or [])
    column, limit = arguments.text_column, longest_piece(arguments, tasks)
    documents = tokenize_documents(rows, tokenizer, text_column=column, max_length=_UNCUT)
    examples: Any = tokenize_documents(rows, tokenizer, text_column=column, max_length=limit)
    require_examples(examples)
    if arguments.packing:
        examples = pack_pieces(examples, arguments, training_arguments, tasks)
    return Preview(
        AUTO_CLASSES[arguments.objective],
        examples,
        len(examples) / len(rows),
        make_collator(arguments, tokenizer, tasks, training_arguments.seed),
        {"document": example_lengths(documents)},
        {"document": limit},
        is_cut=False,
    )


def _preview_instruct(
    arguments: InstructArguments,
    training_arguments: Seq2SeqTrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    rows: Dataset,
) -> Preview:
    require_packable(arguments, config)
    limits = {"source": arguments.max_source_length, "target": arguments.max_target_length}
    examples: Any = tokenize_instructions(
        rows,
        tokenizer,
        columns=arguments.columns,
        max_source_length=limits["source"],
        max_target_length=limits["target"],
        is_encoder_decoder=config.is_encoder_decoder,
        keep_lengths=True,
    )
    lengths = {side: _column(examples, f"{side}_length") for side in limits}
    examples = drop_lengths(examples)
    require_examples(examples)
    if arguments.packing:
        examples = pack_conversations(examples, arguments, training_arguments, config)
    is_pair = config.is_encoder_decoder
    return Preview(
        AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM,
        examples,
        len(examples) / len(rows),
        Seq2SeqCollator(tokenizer) if is_pair else CausalLMCollator(tokenizer),
        lengths,
        limits,
    )


def _preview_classify(
    arguments: ClassifyArguments,
    training_arguments: Seq2SeqTrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    rows: Dataset,
    is_whole: bool,
) -> Preview:
    columns = [arguments.text_column, arguments.label_column]
    require_columns(rows, columns, arguments.train_files or [])
    problem_type = find_problem_type(rows, arguments.label_column)
    require_known_metric(training_arguments, problem_type)
    names = find_class_names(rows, arguments.label_column)
    name_classes(config, names, problem_type)
    with torch.device("meta"):
        require_positions(AutoModelForSequenceClassification.from_config(config), arguments.max_length)
    examples = tokenize_classification(
        rows,
        tokenizer,
        text_column=columns[0],
        label_column=columns[1],
        label_names=names,
        problem_type=problem_type,
        max_length=arguments.max_length,
        keep_lengths=True,
    )
    collate: Any = ClassificationCollator(tokenizer, mask_probability=arguments.mask_probability)
    if arguments.r_drop_alpha:
        if not arguments.mask_probability:
            require_dropout(config, arguments.lora_dropout)
        collate = TwiceCollator(collate)
    notes = [f"{problem_type}, {len(names)} labels in the sample"] if names else [problem_type]
    try:
        make_loss(arguments, training_arguments, examples, names, problem_type)
    except ValueError as error:
        # A row that was not drawn may have the label.
        if is_whole or problem_type == "regression":
            raise
        notes.append(f"in the sample: {error}")
    return Preview(
        AutoModelForSequenceClassification,
        drop_lengths(examples),
        1.0,
        collate,
        {"text": _column(examples, "source_length")},
        {"text": arguments.max_length},
        notes=notes,
    )


def _column(examples: Dataset, name: str) -> NDArray[np.int64]:
    return np.asarray(examples.with_format("numpy")[name][:], dtype=np.int64)


def make_batches(preview: Preview, training_arguments: Seq2SeqTrainingArguments, limit: int = 64) -> list[Batch]:
    """Returns batches of one device as the run would make them, of the sample's examples.

    Args:
        preview: The stage on a sample of its rows.
        training_arguments: Trainer's arguments with the batch size and the way of sampling.
        limit: Most batches to make.

    Returns:
        Full batches, and a smaller one only where the sample does not fill any.
    """
    size = training_arguments.train_batch_size
    examples = preview.examples
    order = list(range(len(examples)))
    if training_arguments.train_sampling_strategy == "group_by_length":
        order = list(LengthGroupedSampler(example_lengths(examples), size, training_arguments.seed, lambda: 0))
    places = [order[start : start + size] for start in range(0, len(order), size)]
    places = [each for each in places if len(each) == size] or places
    # Spread over all of them: where batches are sorted, neighbours are alike.
    chosen = np.linspace(0, len(places) - 1, min(limit, len(places))).round().astype(int)
    return [preview.collate([examples[index] for index in places[each]]) for each in dict.fromkeys(chosen.tolist())]
