"""Pretraining on raw text: next-word prediction and span corruption, causal or masked language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
    set_seed,
)

from kakehashi.tokenization.chat import for_causal_lm
from kakehashi.tokenization.special_tokens import sentinel_ids
from kakehashi.training.arguments import PretrainArguments
from kakehashi.training.attention import set_attention
from kakehashi.training.collators import CausalLMCollator, DenoisingCollator, MaskedLMCollator
from kakehashi.training.documents import require_columns
from kakehashi.training.examples import tokenize_documents
from kakehashi.training.mixture import TASK_TOKENS, Task, denoising_tasks, ul2_tasks
from kakehashi.training.packing import assign_tasks, measure_sequences, measure_tasks
from kakehashi.training.processes import first_process_first
from kakehashi.training.recovery import recovering
from kakehashi.training.run import build_run, finish_run, train
from kakehashi.training.run_folder import open_run_folder
from kakehashi.training.sequence_stage import pack_for_training, repeat_stream, require_examples, require_packable
from kakehashi.training.splits import load_splits
from kakehashi.training.starting_point import adopt_special_ids, load_config, load_tokenizer, start_model

AUTO_CLASSES = {
    "encoder-decoder": AutoModelForSeq2SeqLM,
    "ul2": AutoModelForSeq2SeqLM,
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
}

# Special tokens of a sequence: `<s>` and `</s>` around it, or `</s>` alone after it.
_FRAMING = {"causal-lm": 2, "masked-lm": 1}


@recovering
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
    # Of several processes the first one prepares the data, the others find it in the cache.
    with first_process_first(training_arguments):
        # 1. The folder first: nobody should wait for data to hear that the run may not start.
        checkpoint = open_run_folder(arguments, training_arguments)
        set_seed(training_arguments.seed)

        # 2. Tokenizer, configuration and documents, which have to fit each other before weights are made.
        tokenizer = load_tokenizer(arguments)
        config = load_config(arguments, tokenizer)
        require_packable(arguments, config)
        tasks = find_tasks(arguments, tokenizer)
        require_sentinels(arguments, tokenizer, tasks)
        splits = load_splits(arguments, training_arguments.seed)

        # 3. Documents to pieces of ids, those for training in packed rows if the recipe says so; the collator applies
        #    the objective anew in every epoch.
        train_dataset, validation_dataset, test_dataset = (
            _tokenize(rows, files, tokenizer, arguments, tasks)
            for rows, files in (
                (splits.train, arguments.train_files),
                (splits.validation, arguments.validation_files),
                (splits.test, arguments.test_files),
            )
        )
        assert train_dataset is not None
        require_examples(train_dataset)
        if arguments.packing:
            train_dataset = pack_pieces(train_dataset, arguments, training_arguments, tasks)
        train_dataset = repeat_stream(train_dataset, arguments, training_arguments)

    # 4. The model, in the shape that the objective is for.
    model = start_model(AUTO_CLASSES[arguments.objective], config, arguments)
    adopt_special_ids(model, tokenizer)
    set_attention(model, arguments, training_arguments)

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
        data_collator=make_collator(arguments, tokenizer, tasks, training_arguments.seed),
    )
    train(run, checkpoint)
    return finish_run(run)


def find_tasks(arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase) -> tuple[Task, ...]:
    """Returns the mixture of an encoder-decoder's objective; nothing for the other shapes.

    Args:
        arguments: The objective with its settings.
        tokenizer: Has to know the tokens that announce the tasks of `ul2`.

    Raises:
        ValueError: If it does not know them.
    """
    if arguments.objective == "encoder-decoder":
        return denoising_tasks(arguments.next_word_ratio, arguments.noise_density, arguments.mean_noise_span_length)
    if arguments.objective != "ul2":
        return ()
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in TASK_TOKENS if token not in vocabulary]
    if missing:
        options = " ".join(f"--special-token '{token}'" for token in TASK_TOKENS)
        raise ValueError(
            f"`objective` ul2 needs a tokenizer with the special tokens {', '.join(TASK_TOKENS)}, got one without "
            f"{', '.join(missing)}: train it with {options}"
        )
    return ul2_tasks([vocabulary[token] for token in TASK_TOKENS])


def _tokenize(
    rows: Dataset | IterableDataset | None,
    files: list[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    arguments: PretrainArguments,
    tasks: Sequence[Task],
) -> Dataset | IterableDataset | None:
    """Returns documents as pieces of ids that the objective can use whole; None if there are no rows."""
    if rows is None:
        return None
    require_columns(rows, [arguments.text_column], files or arguments.train_files or [])
    return tokenize_documents(
        rows,
        tokenizer,
        text_column=arguments.text_column,
        max_length=longest_piece(arguments, tasks),
        num_proc=arguments.num_proc,
    )


def pack_pieces(
    pieces: Dataset | IterableDataset,
    arguments: PretrainArguments,
    training_arguments: Seq2SeqTrainingArguments,
    tasks: Sequence[Task],
) -> Dataset | IterableDataset:
    """Returns the pieces in packed rows, each with its task where there are several."""
    longest: tuple[int, ...]
    if tasks:
        pieces = assign_tasks(pieces, tasks, training_arguments.seed)
        measure, longest = measure_tasks(tasks), (arguments.max_source_length, arguments.max_target_length)
    else:
        measure = measure_sequences("input_ids", extra=_FRAMING[arguments.objective])
        longest = (arguments.max_length,)
    settings = (arguments.objective, tuple(tasks))
    return pack_for_training(
        pieces, arguments, training_arguments, measure=measure, longest=longest, settings=repr(settings)
    )


def longest_piece(arguments: PretrainArguments, tasks: Sequence[Task]) -> int:
    """Returns how many tokens of a document become one example, so that nothing of it has to be cut off.

    Args:
        arguments: The objective with its lengths.
        tasks: The mixture, if the objective is one.

    Raises:
        ValueError: If the lengths leave no room for a token beside the special ones.
    """
    if not tasks:
        framing = _FRAMING[arguments.objective]
        if arguments.max_length <= framing:
            raise ValueError(f"`max_length` must be more than {framing}, got {arguments.max_length}")
        return arguments.max_length - framing
    lengths = (arguments.max_source_length, arguments.max_target_length)
    if min(lengths) < 3:
        raise ValueError(f"`max_source_length` and `max_target_length` must be at least 3, got {lengths}")
    return min(task.longest_piece(*lengths) for task in tasks)


def require_sentinels(arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task]) -> None:
    """Raises a ValueError if a document could need more sentinels than there are.

    Args:
        arguments: The lengths.
        tokenizer: Has the sentinels.
        tasks: The mixture, if the objective is one.
    """
    if not tasks:
        return
    longest = longest_piece(arguments, tasks)
    needed, available = max(task.count_spans(longest) for task in tasks), len(sentinel_ids(tokenizer))
    if needed > available:
        raise ValueError(
            f"`max_source_length` must be lower, got {arguments.max_source_length}: {needed} spans are cut out of "
            f"{longest} tokens and need as many sentinels, of which the tokenizer has {available}; or train it with "
            f"--num-sentinels {needed}"
        )


def make_collator(
    arguments: PretrainArguments, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task], seed: int
) -> DenoisingCollator | CausalLMCollator | MaskedLMCollator:
    """Returns what makes batches for the objective.

    Args:
        arguments: The objective with its settings.
        tokenizer: Gives the special ids.
        tasks: The mixture, if the objective is one.
        seed: Decides where documents are split, corrupted or masked.
    """
    if arguments.objective == "causal-lm":
        return CausalLMCollator(tokenizer)
    if arguments.objective == "masked-lm":
        return MaskedLMCollator(tokenizer, mlm_probability=arguments.mlm_probability, seed=seed)
    return DenoisingCollator(tokenizer, tasks, seed=seed)
