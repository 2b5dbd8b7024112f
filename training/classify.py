"""Classification: an encoder learns to put texts into classes, with the names of the classes in its configuration."""

from __future__ import annotations

from functools import partial
from typing import Any

from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
    set_seed,
)

from kakehashi.training.arguments import ClassifyArguments
from kakehashi.training.attention import set_attention
from kakehashi.training.classification_loss import ClassificationLoss, find_class_weights
from kakehashi.training.collators import ClassificationCollator
from kakehashi.training.documents import require_columns
from kakehashi.training.encoding import count_positions
from kakehashi.training.examples import tokenize_classification
from kakehashi.training.label_names import find_class_names, find_problem_type
from kakehashi.training.label_quality import keep_logits, make_compute_metrics, require_known_metric
from kakehashi.training.length_statistics import take_lengths
from kakehashi.training.processes import first_process_first
from kakehashi.training.r_drop import SeeTwice, require_dropout
from kakehashi.training.recovery import recovering
from kakehashi.training.repeats import is_repeated, run_repeats
from kakehashi.training.run import build_run, finish_run, train
from kakehashi.training.run_folder import no_empty_folder_left, open_run_folder, output_folder
from kakehashi.training.splits import Splits, load_splits
from kakehashi.training.starting_point import adopt_special_ids, load_config, load_tokenizer, start_model


def run_classify(arguments: ClassifyArguments, training_arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    """Tunes a pretrained encoder to classify texts, once or several times.

    Args:
        arguments: The stage's keys of the recipe.
        training_arguments: Trainer's keys of the recipe.

    Returns:
        The content of `metrics.json`: the scores of the labels' kind as `eval_*`, and as `test_*` where there are test
        files. Of several runs the mean and the standard deviation of each score.

    Raises:
        ValueError: If the recipe, its data or its model cannot be used; the message names the key.
        TrainingInterrupted: After Ctrl-C or SIGTERM, once a checkpoint is saved.
    """
    if is_repeated(arguments):
        with no_empty_folder_left(output_folder(training_arguments)):
            return run_repeats(arguments, training_arguments, train_classifier)
    return train_classifier(arguments, training_arguments)


@recovering
def train_classifier(
    arguments: ClassifyArguments,
    training_arguments: Seq2SeqTrainingArguments,
    splits: Splits | None = None,
    names: list[str] | None = None,
) -> dict[str, Any]:
    """Tunes a pretrained encoder on given rows.

    Args:
        arguments: The stage's keys of the recipe.
        training_arguments: Trainer's keys of the recipe.
        splits: The rows; None reads those that the recipe names.
        names: Names of the classes; None takes those of the training rows.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: As `run_classify`.
    """
    # Of several processes the first one prepares the data, the others find it in the cache.
    with first_process_first(training_arguments):
        # 1. The folder first: nobody should wait for data to hear that the run may not start.
        checkpoint = open_run_folder(arguments, training_arguments)
        set_seed(training_arguments.seed)

        # 2. Rows, whose training labels are the classes.
        splits = splits or load_splits(arguments, training_arguments.seed)
        columns = [arguments.text_column, arguments.label_column]
        require_columns(splits.train, columns, arguments.train_files or [])
        problem_type = find_problem_type(splits.rows_as_read, arguments.label_column)
        require_known_metric(training_arguments, problem_type)
        if names is None:
            names = find_class_names(splits.rows_as_read, arguments.label_column)

        # 3. Tokenizer and configuration, which takes the names of the classes.
        tokenizer = load_tokenizer(arguments)
        config = load_config(arguments, tokenizer)
        name_classes(config, names, problem_type)
        if arguments.r_drop_alpha and not arguments.mask_probability:
            require_dropout(config, arguments.lora_dropout)

        # 4. Rows to ids, all of them before any training: a label that only the test rows have is told now.
        tokenize = partial(_tokenize, tokenizer, arguments, names, problem_type)
        train_dataset = tokenize(splits.train, arguments.train_files, keep_lengths=True)
        validation_dataset = splits.validation and tokenize(splits.validation, arguments.validation_files)
        test_dataset = splits.test and tokenize(splits.test, arguments.test_files)
        train_dataset, lengths = take_lengths(train_dataset, source=arguments.max_length)

    # 5. The model: a pretrained encoder under a new head.
    model = start_model(AutoModelForSequenceClassification, config, arguments)
    require_positions(model, arguments.max_length)
    adopt_special_ids(model, tokenizer)
    set_attention(model, arguments, training_arguments)

    # 6. Train, then leave a complete folder.
    run = build_run(
        "classify",
        arguments,
        training_arguments,
        model=model,
        tokenizer=tokenizer,
        train_dataset=train_dataset,
        validation_dataset=validation_dataset,
        test_dataset=test_dataset,
        data_collator=ClassificationCollator(
            tokenizer, mask_probability=arguments.mask_probability, seed=training_arguments.seed
        ),
        compute_metrics=make_compute_metrics(problem_type),
        compute_loss_func=make_loss(arguments, training_arguments, train_dataset, names, problem_type),
    )
    run.trainer.preprocess_logits_for_metrics = keep_logits
    if arguments.r_drop_alpha:
        run.trainer.add_callback(SeeTwice())
    train(run, checkpoint)
    return finish_run(run, lengths if splits.part is None else {**lengths, "part": splits.part})


def name_classes(config: PreTrainedConfig, names: list[str], problem_type: str) -> None:
    """Notes the classes in a configuration, so that a loaded model answers with names.

    Args:
        config: Configuration to change in place.
        names: Name of each label id; empty for regression, which has one number instead.
        problem_type: As Transformers names it.
    """
    config.update({"problem_type": problem_type})
    # The length of `id2label` is `num_labels`.
    config.id2label = dict(enumerate(names)) if names else {0: "LABEL_0"}
    config.label2id = {name: index for index, name in config.id2label.items()}


def require_positions(model: PreTrainedModel, max_length: int) -> None:
    """Raises a ValueError if texts may be longer than the positions that a model has learned.

    Args:
        model: The classifier.
        max_length: Most tokens of a text.
    """
    positions = count_positions(model)
    if positions is not None and max_length > positions:
        raise ValueError(
            f"`max_length` must be at most {positions}, the positions that {type(model).__name__} has learned, got "
            f"{max_length}"
        )


def make_loss(
    arguments: ClassifyArguments,
    training_arguments: Seq2SeqTrainingArguments,
    examples: Dataset,
    names: list[str],
    problem_type: str,
) -> ClassificationLoss:
    """Returns the loss with the weights, the smoothing and the R-Drop of the recipe.

    Without these it is that of kakehashi's models. Those of other families divide by the texts of a batch, where
    Trainer relies on a division by those of the step.

    Args:
        arguments: The stage's keys of the recipe.
        training_arguments: Trainer's keys of the recipe.
        examples: Tokenized training rows.
        names: Name of each label id; empty for regression.
        problem_type: As Transformers names it.

    Raises:
        ValueError: If weights name no label, or weights or smoothing are given for regression.
    """
    weights = find_class_weights(arguments.class_weights, examples, names, problem_type)
    return ClassificationLoss(problem_type, weights, training_arguments.label_smoothing_factor, arguments.r_drop_alpha)


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    arguments: ClassifyArguments,
    names: list[str],
    problem_type: str,
    rows: Dataset,
    files: list[str] | None,
    keep_lengths: bool = False,
) -> Dataset:
    """Returns texts as ids with the ids of their labels."""
    files = files or arguments.train_files or []
    require_columns(rows, [arguments.text_column, arguments.label_column], files)
    try:
        return tokenize_classification(
            rows,
            tokenizer,
            text_column=arguments.text_column,
            label_column=arguments.label_column,
            label_names=names,
            problem_type=problem_type,
            max_length=arguments.max_length,
            num_proc=arguments.num_proc,
            keep_lengths=keep_lengths,
        )
    except ValueError as error:
        raise ValueError(f"{', '.join(files)}: {error}") from error
