"""Instruction tuning: a model learns to answer, and only the answer is a label."""

from __future__ import annotations

import re
from typing import Any

from datasets import Dataset, IterableDataset
from tqdm.auto import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
    set_seed,
)

from kakehashi.training.arguments import InstructArguments
from kakehashi.training.attention import set_attention
from kakehashi.training.bfloat16 import autocast_of
from kakehashi.training.collators import CausalLMCollator, Seq2SeqCollator
from kakehashi.training.evaluation import Questions, evaluate_generation
from kakehashi.training.examples import tokenize_instructions
from kakehashi.training.instruction_rows import FIELD, Conversation, is_empty, read_conversations
from kakehashi.training.length_statistics import take_lengths
from kakehashi.training.packing import measure_sequences
from kakehashi.training.processes import first_process_first
from kakehashi.training.recovery import recovering
from kakehashi.training.run import Run, build_run, finish_run, train
from kakehashi.training.run_folder import open_run_folder
from kakehashi.training.samples import AnswerSamples, check_samples, choose_questions
from kakehashi.training.sequence_stage import pack_for_training, repeat_stream, require_examples, require_packable
from kakehashi.training.splits import load_splits
from kakehashi.training.starting_point import adopt_special_ids, load_config, load_tokenizer, start_model

_LANGUAGE = re.compile(r"[a-z]{2,3}")


@recovering
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
    # Of several processes the first one prepares the data, the others find it in the cache.
    with first_process_first(training_arguments):
        # 1. The folder first: nobody should wait for data to hear that the run may not start.
        check_samples(arguments, training_arguments)
        checkpoint = open_run_folder(arguments, training_arguments)
        set_seed(training_arguments.seed)

        # 2. Tokenizer, configuration and rows, which have to fit each other before weights are made.
        tokenizer = load_tokenizer(arguments)
        config = load_config(arguments, tokenizer)
        require_packable(arguments, config)
        remember_task_templates(config, arguments)
        splits = load_splits(arguments, training_arguments.seed)
        questions = _find_questions(splits.validation, arguments)

        # 3. Rows to ids, those for training in packed rows if the recipe says so.
        train_dataset, validation_dataset, test_dataset = (
            _tokenize(rows, tokenizer, arguments, config, keep_lengths=rows is splits.train)
            for rows in (splits.train, splits.validation, splits.test)
        )
        lengths: dict[str, float] = {}
        if isinstance(train_dataset, Dataset):
            limits = {"source": arguments.max_source_length, "target": arguments.max_target_length}
            train_dataset, lengths = take_lengths(train_dataset, **limits)
        assert train_dataset is not None
        require_examples(train_dataset)
        if arguments.packing:
            train_dataset = pack_conversations(train_dataset, arguments, training_arguments, config)
        train_dataset = repeat_stream(train_dataset, arguments, training_arguments)

    # 4. The model, in the shape of what it starts from.
    auto_class = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = start_model(auto_class, config, arguments)
    adopt_special_ids(model, tokenizer)
    set_attention(model, arguments, training_arguments)

    # 5. Train, then leave a complete folder.
    run = build_run(
        "instruct",
        arguments,
        training_arguments,
        model=model,
        tokenizer=tokenizer,
        train_dataset=train_dataset,
        validation_dataset=validation_dataset,
        test_dataset=test_dataset,
        data_collator=Seq2SeqCollator(tokenizer) if config.is_encoder_decoder else CausalLMCollator(tokenizer),
    )
    _watch_answers(run, splits.validation, arguments)
    train(run, checkpoint)
    return finish_run(run, lengths | ({} if questions is None else _measure_answers(run, questions, arguments)))


def _tokenize(
    rows: Dataset | None,
    tokenizer: PreTrainedTokenizerBase,
    arguments: InstructArguments,
    config: PreTrainedConfig,
    keep_lengths: bool = False,
) -> Dataset | None:
    """Returns the rows as sources and targets in the form that the model's shape needs; None if there are no rows."""
    if rows is None:
        return None
    return tokenize_instructions(
        rows,
        tokenizer,
        columns=arguments.columns,
        max_source_length=arguments.max_source_length,
        max_target_length=arguments.max_target_length,
        is_encoder_decoder=config.is_encoder_decoder,
        num_proc=arguments.num_proc,
        keep_lengths=keep_lengths,
    )


def pack_conversations(
    examples: Dataset | IterableDataset,
    arguments: InstructArguments,
    training_arguments: Seq2SeqTrainingArguments,
    config: PreTrainedConfig,
) -> Dataset | IterableDataset:
    """Returns the examples in packed rows, with room for sources and for targets; a decoder alone has one sequence."""
    longest: tuple[int, ...] = (arguments.max_source_length, arguments.max_target_length)
    columns = ["input_ids", "labels"]
    if not config.is_encoder_decoder:
        longest, columns = (sum(longest),), ["input_ids"]
    return pack_for_training(
        examples, arguments, training_arguments, measure=measure_sequences(*columns), longest=longest, settings=columns
    )


def _read_first(rows: Dataset, limit: int, arguments: InstructArguments) -> list[Conversation]:
    """Returns the conversations of the first rows that ask and answer something."""
    columns = arguments.columns
    return [
        conversation
        for index, row in enumerate(rows.select(range(min(len(rows), limit))))
        for conversation in read_conversations(row, columns, index)
        if not is_empty(conversation)
    ]


def _watch_answers(run: Run, rows: Dataset | None, arguments: InstructArguments) -> None:
    """Lets the model answer a few questions while it learns."""
    questions = choose_questions(arguments, lambda limit: [] if rows is None else _read_first(rows, limit, arguments))
    samples = AnswerSamples(
        run.tokenizer,
        questions,
        every=arguments.sample_steps,
        max_new_tokens=arguments.max_target_length,
        leave_out=run.counter.leave_out,
    )
    run.trainer.add_callback(samples)


def _find_questions(rows: Dataset | None, arguments: InstructArguments) -> Questions | None:
    """Returns what the trained model is asked of the first validation rows; None where the recipe asks for nothing."""
    if not arguments.generation_examples:
        return None
    conversations = [] if rows is None else _read_first(rows, arguments.generation_examples, arguments)
    if not conversations:
        raise ValueError(
            "`generation_examples` needs validation rows that ask and answer something, got none among the first "
            f"{arguments.generation_examples}: give `validation_files` or `validation_split`, or leave it out"
        )
    return Questions([messages for messages, _ in conversations], [[answer] for _, answer in conversations])


def _measure_answers(run: Run, questions: Questions, arguments: InstructArguments) -> dict[str, float]:
    """Returns exact match, chrF and BLEU of the model's answers, as `eval_*`."""
    settings = {
        "batch_size": run.training_arguments.per_device_eval_batch_size,
        "max_new_tokens": arguments.max_target_length,
    }
    # None leaves the bar out where there is no terminal.
    disable = run.training_arguments.disable_tqdm or None
    with (
        autocast_of(run.training_arguments),
        tqdm(desc="answer", total=len(questions.prompts), leave=False, disable=disable) as bar,
    ):
        measured = evaluate_generation(
            run.model.eval(),
            run.tokenizer,
            questions,
            target_language=arguments.target_language,
            on_batch=bar.update,
            **settings,
        )
    return {f"eval_{name}": value for name, value in measured.scores.items()}


def remember_task_templates(config: PreTrainedConfig, arguments: InstructArguments) -> None:
    """Notes in the configuration how the model is asked, for `kakehashi translate` and the pipelines.

    A template counts if its answer is one column and its instruction holds one other column. With the answer a column
    named as a language it is one to translate: "Translate to Japanese: {en}" and "{ja}" become
    `{"translation": {"ja": "Translate to Japanese: {text}"}}`; with the answer "{summary}" it is the one to summarize,
    `{"summarization": {"template": "Summarize: {text}"}}`. Of several wordings the first is kept.

    Args:
        config: Configuration to change in place.
        arguments: The stage's arguments, with the templates.
    """
    found: dict[str, dict[str, str]] = {}
    pairs = zip(arguments.source_template or [], arguments.target_template or [], strict=True)
    for source, target in pairs:
        answer = FIELD.fullmatch(target)
        if answer is None or len(FIELD.findall(source)) != 1:
            continue
        template = FIELD.sub("{text}", source)
        if answer[1] == "summary":
            found.setdefault("summarization", {}).setdefault("template", template)
        elif _LANGUAGE.fullmatch(answer[1]):
            found.setdefault("translation", {}).setdefault(answer[1], template)
    if found:
        known = getattr(config, "task_specific_params", None) or {}
        config.task_specific_params = {
            **known,
            **{task: {**known.get(task, {}), **new} for task, new in found.items()},
        }
