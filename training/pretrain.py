"""Pretraining on raw text: next-word prediction and span corruption, causal or masked language modelling."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
    set_seed,
)

from kakehashi.tokenization.chat import for_causal_lm
from kakehashi.training.arguments import PretrainArguments
from kakehashi.training.collators import CausalLMCollator, DenoisingCollator, MaskedLMCollator
from kakehashi.training.documents import require_columns
from kakehashi.training.examples import tokenize_documents
from kakehashi.training.objectives import longest_corruptible_length
from kakehashi.training.run import build_run, finish_run, train
from kakehashi.training.run_folder import open_run_folder
from kakehashi.training.splits import load_splits
from kakehashi.training.starting_point import adopt_special_ids, load_config, load_tokenizer, start_model

_AUTO_CLASSES = {
    "encoder-decoder": AutoModelForSeq2SeqLM,
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
}


def run_pretrain(arguments: PretrainArguments, training_arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    """Pretrains a model on documents.

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

    # 2. Tokenizer, configuration and documents, which have to fit each other before weights are made.
    tokenizer = load_tokenizer(arguments)
    config = load_config(arguments, tokenizer)
    splits = load_splits(arguments, training_arguments.seed)

    # 3. Documents to pieces of ids; the collator draws the objective anew in every epoch.
    train_dataset = _tokenize(splits.train, arguments.train_files, tokenizer, arguments)
    validation_dataset = _tokenize(splits.validation, arguments.validation_files, tokenizer, arguments)
    test_dataset = _tokenize(splits.test, arguments.test_files, tokenizer, arguments)

    # 4. The model, in the shape that the objective is for.
    model = start_model(_AUTO_CLASSES[arguments.objective], config, arguments)
    adopt_special_ids(model, tokenizer)

    # 5. Train, then leave a complete folder.
    run = build_run(
        "pretrain",
        arguments,
        training_arguments,
        model=model,
        tokenizer=for_causal_lm(tokenizer) if arguments.objective == "causal-lm" else tokenizer,
        train_dataset=train_dataset,
        validation_dataset=validation_dataset,
        test_dataset=test_dataset,
        data_collator=make_collator(arguments, tokenizer, training_arguments.seed),
    )
    train(run, checkpoint)
    return finish_run(run)


def _tokenize(
    rows: Dataset | None, files: list[str] | None, tokenizer: PreTrainedTokenizerBase, arguments: PretrainArguments
) -> Dataset | None:
    """Returns documents as pieces of ids that the objective can use whole; None if there are no rows."""
    if rows is None:
        return None
    require_columns(rows, [arguments.text_column], files or arguments.train_files or [])
    return tokenize_documents(
        rows,
        tokenizer,
        text_column=arguments.text_column,
        max_length=longest_piece(arguments),
        num_proc=arguments.preprocessing_workers if arguments.preprocessing_workers > 1 else None,
    )


def longest_piece(arguments: PretrainArguments) -> int:
    """Returns how many tokens of a document become one example, so that nothing of it has to be cut off.

    Args:
        arguments: The objective with its lengths.

    Raises:
        ValueError: If the lengths leave no room for a token beside the special ones.
    """
    if arguments.objective != "encoder-decoder":
        # `<s>` and `</s>` around a sequence, or `</s>` alone after it.
        framing = 2 if arguments.objective == "causal-lm" else 1
        if arguments.max_length <= framing:
            raise ValueError(f"`max_length` must be more than {framing}, got {arguments.max_length}")
        return arguments.max_length - framing
    lengths = (arguments.max_source_length, arguments.max_target_length)
    if min(lengths) < 2:
        raise ValueError(f"`max_source_length` and `max_target_length` must be at least 2, got {lengths}")
    bounds = []
    if arguments.next_word_ratio > 0:
        # Of a split piece each side holds all tokens but one at the most, and `</s>`.
        bounds.append(min(lengths))
    if arguments.next_word_ratio < 1:
        density, span_length = arguments.noise_density, arguments.mean_noise_span_length
        bounds.append(longest_corruptible_length(*lengths, density, span_length))
    return min(bounds)


def make_collator(
    arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase, seed: int
) -> DenoisingCollator | CausalLMCollator | MaskedLMCollator:
    """Returns what makes batches for the objective.

    Args:
        arguments: The objective with its settings.
        tokenizer: Gives the special ids.
        seed: Decides where documents are split, corrupted or masked.
    """
    if arguments.objective == "causal-lm":
        return CausalLMCollator(tokenizer)
    if arguments.objective == "masked-lm":
        return MaskedLMCollator(tokenizer, mlm_probability=arguments.mlm_probability, seed=seed)
    return DenoisingCollator(
        tokenizer,
        seed=seed,
        next_word_ratio=arguments.next_word_ratio,
        noise_density=arguments.noise_density,
        mean_noise_span_length=arguments.mean_noise_span_length,
    )
