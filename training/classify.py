"""Classification: an encoder learns to put texts into classes, with the names of the classes in its configuration."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Seq2SeqTrainingArguments,
    set_seed,
)

from kakehashi.training.arguments import ClassifyArguments
from kakehashi.training.classification_loss import ClassificationLoss, find_class_weights
from kakehashi.training.documents import require_columns
from kakehashi.training.examples import collect_label_names, find_problem_type, tokenize_classification
from kakehashi.training.label_quality import make_compute_metrics, require_known_metric
from kakehashi.training.run import build_run, finish_run, train
from kakehashi.training.run_folder import open_run_folder
from kakehashi.training.splits import load_splits
from kakehashi.training.starting_point import adopt_special_ids, load_config, load_tokenizer, start_model


def run_classify(arguments: ClassifyArguments, training_arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    """Tunes a pretrained encoder to classify texts.

    Args:
        arguments: The stage's keys of the recipe.
        training_arguments: Trainer's keys of the recipe.

    Returns:
        The content of `metrics.json`: accuracy and macro-F1 as `eval_*`, and as `test_*` where there are test files.

    Raises:
        ValueError: If the recipe, its data or its model cannot be used; the message names the key.
        TrainingInterrupted: After Ctrl-C or SIGTERM, once a checkpoint is saved.
    """
    # 1. The folder first: nobody should wait for data to hear that the run may not start.
    checkpoint = open_run_folder(arguments, training_arguments)
    set_seed(training_arguments.seed)

    # 2. Rows, whose training labels are the classes.
    splits = load_splits(arguments, training_arguments.seed)
    columns = [arguments.text_column, arguments.label_column]
    require_columns(splits.train, columns, arguments.train_files or [])
    problem_type = find_problem_type(splits.train, arguments.label_column)
    require_known_metric(training_arguments, problem_type)
    names = [] if problem_type == "regression" else collect_label_names(splits.train, arguments.label_column)

    # 3. Tokenizer and configuration, which takes the names of the classes.
    tokenizer = load_tokenizer(arguments)
    config = load_config(arguments, tokenizer)
    name_classes(config, names, problem_type)

    # 4. Rows to ids, all of them before any training: a label that only the test rows have is told now.
    train_dataset, validation_dataset, test_dataset = (
        _tokenize(rows, files, tokenizer, arguments, names, problem_type)
        for rows, files in (
            (splits.train, arguments.train_files),
            (splits.validation, arguments.validation_files),
            (splits.test, arguments.test_files),
        )
    )

    # 5. The model: a pretrained encoder under a new head.
    model = start_model(AutoModelForSequenceClassification, config, arguments)
    adopt_special_ids(model, tokenizer)

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
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=make_compute_metrics(problem_type),
        compute_loss_func=_choose_loss(arguments, training_arguments, train_dataset, names, problem_type),
    )
    train(run, checkpoint)
    return finish_run(run)


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


def _choose_loss(
    arguments: ClassifyArguments,
    training_arguments: Seq2SeqTrainingArguments,
    examples: Dataset | None,
    names: list[str],
    problem_type: str,
) -> ClassificationLoss | None:
    """Returns a loss with the weights and the smoothing of the recipe; None for the model's own."""
    # There are training rows, or `load_splits` would have refused.
    assert examples is not None
    weights = find_class_weights(arguments.class_weights, examples, names, problem_type)
    smoothing = training_arguments.label_smoothing_factor
    return None if weights is None and not smoothing else ClassificationLoss(problem_type, weights, smoothing)


def _tokenize(
    rows: Dataset | None,
    files: list[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    arguments: ClassifyArguments,
    names: list[str],
    problem_type: str,
) -> Dataset | None:
    """Returns texts as ids with the ids of their labels; None if there are no rows."""
    if rows is None:
        return None
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
            num_proc=arguments.preprocessing_workers if arguments.preprocessing_workers > 1 else None,
        )
    except ValueError as error:
        raise ValueError(f"{', '.join(files)}: {error}") from error
