"""Instruction tuning: a model learns to answer, and only the answer is a label."""

from __future__ import annotations

import re
from typing import Any

from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
    set_seed,
)

from kakehashi.training.arguments import InstructArguments
from kakehashi.training.collators import CausalLMCollator, Seq2SeqCollator
from kakehashi.training.examples import tokenize_instructions
from kakehashi.training.instruction_rows import InstructionColumns
from kakehashi.training.run import build_run, finish_run, train
from kakehashi.training.run_folder import open_run_folder
from kakehashi.training.splits import load_splits
from kakehashi.training.starting_point import adopt_special_ids, load_config, load_tokenizer, start_model

_FIELD = re.compile(r"\{(\w+)\}")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


def run_instruct(arguments: InstructArguments, training_arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    """Tunes a model on instructions and their answers.

    Args:
        arguments: The stage's keys of the recipe.
        training_arguments: Trainer's keys of the recipe.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: If the recipe, its data or its model cannot be used; the message names the key.
        TrainingInterrupted: After Ctrl-C or SIGTERM, once a checkpoint is saved.
    """
    # 1. The folder first: nobody should wait for data to hear that the run may not start.
    checkpoint = open_run_folder(arguments, training_arguments)
    set_seed(training_arguments.seed)

    # 2. Tokenizer, configuration and rows, which have to fit each other before weights are made.
    tokenizer = load_tokenizer(arguments)
    config = load_config(arguments, tokenizer)
    remember_translation_templates(config, arguments)
    splits = load_splits(arguments, training_arguments.seed)

    # 3. Rows to ids.
    train_dataset = _tokenize(splits.train, tokenizer, arguments, config)
    validation_dataset = (
        None if splits.validation is None else _tokenize(splits.validation, tokenizer, arguments, config)
    )

    # 4. The model, in the shape of what it starts from.
    auto_class = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = start_model(auto_class, config, arguments)
    adopt_special_ids(model, tokenizer)

    # 5. Train, then leave a complete folder.
    run = build_run(
        "instruct",
        arguments,
        training_arguments,
        model=model,
        tokenizer=tokenizer,
        train_dataset=train_dataset,
        validation_dataset=validation_dataset,
        data_collator=Seq2SeqCollator(tokenizer) if config.is_encoder_decoder else CausalLMCollator(tokenizer),
    )
    train(run, checkpoint)
    return finish_run(run)


def _tokenize(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, arguments: InstructArguments, config: PreTrainedConfig
) -> Dataset:
    """Returns the rows as sources and targets in the form that the model's shape needs."""
    return tokenize_instructions(
        rows,
        tokenizer,
        columns=InstructionColumns(
            source_column=arguments.source_column,
            target_column=arguments.target_column,
            source_template=tuple(arguments.source_template or ()),
            target_template=tuple(arguments.target_template or ()),
        ),
        max_source_length=arguments.max_source_length,
        max_target_length=arguments.max_target_length,
        is_encoder_decoder=config.is_encoder_decoder,
        num_proc=arguments.preprocessing_workers if arguments.preprocessing_workers > 1 else None,
    )


def remember_translation_templates(config: PreTrainedConfig, arguments: InstructArguments) -> None:
    """Notes in the configuration how the model is asked to translate, for `kakehashi translate`.

    A template counts if its answer is one column named as a language and its instruction holds one other column:
    "Translate to Japanese: {en}" with the answer "{ja}" becomes `{"ja": "Translate to Japanese: {text}"}`. Of several
    wordings the first is kept.

    Args:
        config: Configuration to change in place.
        arguments: The stage's arguments, with the templates.
    """
    found: dict[str, str] = {}
    pairs = zip(arguments.source_template or [], arguments.target_template or [], strict=True)
    for source, target in pairs:
        answer = _FIELD.fullmatch(target)
        if answer is not None and _LANGUAGE.fullmatch(answer[1]) and len(_FIELD.findall(source)) == 1:
            found.setdefault(answer[1], _FIELD.sub("{text}", source))
    if found:
        known = getattr(config, "task_specific_params", None) or {}
        config.task_specific_params = {**known, "translation": {**known.get("translation", {}), **found}}
