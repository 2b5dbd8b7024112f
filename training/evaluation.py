"""Measures a trained model on rows it has not seen: what it writes, how it labels, how well it predicts text.

a model that     and rows with                                       gives
labels texts     a text and a label                                  accuracy, macro-F1
                 a text and a list of labels                         micro-F1, macro-F1, exact match
                 a text and a number                                 MSE, MAE, Pearson, Spearman
writes text      instruction and answer, or two parallel columns     exact match, chrF, BLEU
writes text      a text alone                                        perplexity
restores words   a text alone                                        loss and accuracy of hidden tokens
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.modeling.loss_kakehashi import shift_right
from kakehashi.training.collators import MaskedLMCollator
from kakehashi.training.documents import require_columns
from kakehashi.training.inference import (
    Prompt,
    batches_by_length,
    generate_texts,
    translation_template,
)
from kakehashi.training.instruction_rows import (
    INSTRUCTION_FORMS,
    InstructionColumns,
    fill_template,
    read_instruction_row,
)
from kakehashi.training.label_names import label_reader
from kakehashi.training.label_quality import measure_labels
from kakehashi.training.labelling import DEFAULT_THRESHOLD, has_several_labels, score_texts
from kakehashi.training.metrics import load_metric
from kakehashi.training.objectives import IGNORED_LABEL

OnBatch = Callable[[int], None]

LANGUAGES = ("ja", "en")


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and the answers it was measured on.

    Attributes:
        task: `classification`, `generation`, `perplexity` or `fill-mask`.
        scores: Name → value.
        predictions: One object for each row: what went in, what came out, what would have been right. Empty where
            tokens are measured and no rows.
    """

    task: str
    scores: dict[str, float]
    predictions: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Questions:
    """Prompts and every answer that is right.

    Attributes:
        prompts: What the model is asked, one for each row.
        references: For each prompt the answers that count as right, at least one; white space at their edges is
            taken away, as from the answers of a model.
    """

    prompts: list[Prompt]
    references: list[list[str]]

    def __post_init__(self) -> None:
        """Strips the references."""
        stripped = [[each.strip() for each in references] for references in self.references]
        object.__setattr__(self, "references", stripped)


def read_questions(
    rows: Dataset,
    paths: Sequence[str],
    model: PreTrainedModel,
    *,
    to: str | None = None,
    source_column: str | None = None,
    target_column: str | None = None,
    source_template: str | None = None,
) -> Questions:
    """Returns what a model is to be asked, from rows of any form that `kakehashi instruct` takes.

    Args:
        rows: The rows.
        paths: Where they came from, for the messages.
        model: The model to be asked; its configuration has the instruction it was tuned on.
        to: Translate into this language; the source is in the column of the other one if `source_column` is `None`.
        source_column: Column of the text or question.
        target_column: Column of the answer, or of a list of answers that are all right; with `to` the column of that
            language is meant by `None`.
        source_template: The prompt, with `{column}` for each value; `None` takes the instruction of the model.

    Raises:
        ValueError: If a column is absent, or the arguments do not say what to ask.
    """
    if to is not None:
        other = next(language for language in LANGUAGES if language != to)
        source_column, target_column = source_column or other, target_column or to
        source_template = source_template or translation_template(model.config, to).replace(
            "{text}", f"{{{source_column}}}"
        )
    if target_column is None:
        if source_column is not None or source_template is not None:
            raise ValueError("`target_column` must name the column of the right answer, got nothing")
        return _read_instructions(rows)
    if source_template is None:
        if source_column is None:
            raise ValueError("`source_column` or `source_template` must say what to ask, got neither")
        source_template = f"{{{source_column}}}"
    used = InstructionColumns(source_template=[source_template], target_template=[f"{{{target_column}}}"]).named
    require_columns(rows, used, paths)
    return Questions(
        prompts=[fill_template(source_template, row) for row in rows],
        references=[_as_references(value, target_column) for value in rows[target_column]],
    )


def evaluate_generation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Questions,
    *,
    target_language: str | None = None,
    on_batch: OnBatch | None = None,
    **settings: Any,
) -> Evaluation:
    """Asks every question and compares the answers with those that are right.

    Args:
        model: From `load_for_generation`.
        tokenizer: Its tokenizer.
        questions: From `read_questions`.
        target_language: Decides how BLEU cuts words; `None` looks at the script.
        on_batch: Called after each batch with its number of prompts.
        **settings: Passed to `generate_texts`.
    """
    answers = generate_texts(model, tokenizer, questions.prompts, on_batch=on_batch, **settings)
    scores = load_metric("translation_quality").compute(
        predictions=answers, references=questions.references, target_language=target_language
    )
    predictions = [
        {"prompt": prompt, "prediction": answer, "references": references, "is_right": answer in references}
        for prompt, answer, references in zip(questions.prompts, answers, questions.references, strict=True)
    ]
    return Evaluation("generation", scores, predictions)


def evaluate_classification(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[Any],
    *,
    batch_size: int,
    on_batch: OnBatch | None = None,
) -> Evaluation:
    """Labels every text and compares with the right labels.

    Args:
        model: From `load_for_classification`.
        tokenizer: Its tokenizer.
        texts: The texts.
        labels: Name of the right label of each text; a list of names for a multi-label model, a number for regression.
        batch_size: Texts that run through the model together.
        on_batch: Called after each batch with its number of texts.

    Raises:
        ValueError: If a label is none of the model's, or of another kind than its labels.
    """
    known: Any = model.config.id2label
    names = [str(known[index]) for index in sorted(known)]
    problem_type = model.config.problem_type or "single_label_classification"
    if has_several_labels(model.config):
        problem_type = "multi_label_classification"
    read = label_reader(names, problem_type)
    references = [read(label, index) for index, label in enumerate(labels)]
    scores = score_texts(model, tokenizer, texts, batch_size=batch_size, on_batch=on_batch)
    if problem_type == "multi_label_classification":
        scores = (scores >= DEFAULT_THRESHOLD).float()
    predictions: list[dict[str, Any]] = []
    for text, row, label in zip(texts, scores.tolist(), labels, strict=True):
        if problem_type == "regression":
            predictions.append({"text": text, "prediction": row[0], "label": float(label)})
        elif problem_type == "multi_label_classification":
            chosen = [names[index] for index, holds in enumerate(row) if holds]
            predictions.append({"text": text, "prediction": chosen, "label": list(label or [])})
        else:
            best = max(range(len(row)), key=row.__getitem__)
            answer = {"prediction": names[best], "probability": row[best]}
            predictions.append({"text": text, **answer, "label": str(label)})
    return Evaluation(
        "classification", measure_labels(problem_type, scores.numpy(), np.array(references)), predictions
    )


@torch.inference_mode()
def evaluate_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int,
    on_batch: OnBatch | None = None,
) -> Evaluation:
    """Measures how well the model predicts the tokens of the texts.

    A decoder predicts each token from those before it. An encoder-decoder reads the first half of a text and predicts
    the second half. A text longer than the model is measured in pieces that know nothing of each other.

    Args:
        model: From `load_for_generation`.
        tokenizer: Its tokenizer.
        texts: The texts.
        batch_size: Pieces of text that run through the model together.
        on_batch: Called after each batch with its number of pieces.

    Raises:
        ValueError: If no text is left.
    """
    pieces = _cut_pieces(model, tokenizer, texts)
    losses: list[float] = []
    counts: list[int] = []
    for indices in batches_by_length([len(piece) for piece in pieces], batch_size):
        batch, labels = _frame_pieces(model, tokenizer, [pieces[index] for index in indices])
        logits = model(**{name: ids.to(model.device) for name, ids in batch.items()}).logits.float()
        losses.append(float(cross_entropy(logits.flatten(0, 1), labels.flatten().to(model.device))))
        counts.append(int((labels != IGNORED_LABEL).sum()))
        if on_batch is not None:
            on_batch(len(indices))
    scores = load_metric("perplexity").compute(predictions=losses, references=counts)
    return Evaluation("perplexity", {**scores, "predicted_tokens": sum(counts)})


@torch.inference_mode()
def evaluate_hidden_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int,
    mlm_probability: float = 0.3,
    on_batch: OnBatch | None = None,
) -> Evaluation:
    """Measures how well an encoder restores hidden tokens: as validation in pretraining, but each text by itself.

    Which tokens of a text are hidden follows from the text alone, so that every model with its tokenizer is asked for
    the same. A text longer than the model is measured in pieces.

    Args:
        model: From `load_for_restoring`.
        tokenizer: Its tokenizer.
        texts: The texts.
        batch_size: Pieces of text that run through the model together.
        mlm_probability: Fraction of the tokens to hide, above 0 and at most 1.
        on_batch: Called after each batch with its number of pieces.

    Raises:
        ValueError: If no text is left, the tokenizer has no mask token, or the fraction is outside its bounds.
    """
    collate = MaskedLMCollator(tokenizer, mlm_probability)
    pieces = [collate([{"input_ids": piece}]) for piece in _cut_pieces(model, tokenizer, texts)]
    loss, num_right, num_hidden = 0.0, 0, 0
    for indices in batches_by_length([piece["labels"].shape[1] for piece in pieces], batch_size):
        inputs = {"input_ids": [pieces[index]["input_ids"][0].tolist() for index in indices]}
        batch = tokenizer.pad(inputs, padding_side="right", return_tensors="pt").to(model.device)
        labels = _pad_labels([pieces[index]["labels"][0] for index in indices]).to(model.device)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        is_hidden = labels != IGNORED_LABEL
        logits, labels = logits[is_hidden].float(), labels[is_hidden]
        loss += float(cross_entropy(logits, labels, reduction="sum"))
        num_right += int((logits.argmax(dim=-1) == labels).sum())
        num_hidden += len(labels)
        if on_batch is not None:
            on_batch(len(indices))
    scores = {"loss": loss / num_hidden, "accuracy": num_right / num_hidden, "predicted_tokens": num_hidden}
    return Evaluation("fill-mask", scores)


def holds_instructions(rows: Dataset) -> bool:
    """Returns whether the rows have the columns of an instruction and its answer under their usual names."""
    return any(set(form) <= set(rows.column_names) for form in INSTRUCTION_FORMS)


def _read_instructions(rows: Dataset) -> Questions:
    pairs = [read_instruction_row(row) for row in rows]
    return Questions([messages for messages, _ in pairs], [[target] for _, target in pairs])


def _as_references(value: Any, column: str) -> list[str]:
    references = [value] if isinstance(value, str) else value
    if not isinstance(references, list) or not references or not all(isinstance(each, str) for each in references):
        raise ValueError(f"`{column}` must hold a text or a list of texts in every row, got {value!r}")
    return references


def _cut_pieces(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of the texts, in pieces that fit the model; at least one."""
    max_length = getattr(model.config, "max_position_embeddings", None)
    # A tokenizer takes no empty list.
    encode = {"add_special_tokens": False, "split_special_tokens": True}
    documents = tokenizer(list(texts), **encode)["input_ids"] if texts else []
    # Two places are left for the special tokens around a piece.
    size = max_length - 2 if max_length else max([1, *map(len, documents)])
    pieces = [ids[start : start + size] for ids in documents for start in range(0, len(ids), size)]
    if not pieces:
        raise ValueError("there must be at least one text with a token, got none")
    return pieces


def _frame_pieces(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pieces: list[list[int]]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Returns the model's inputs, and for each position of its logits the token it has to predict."""
    eos = tokenizer.eos_token_id
    if not model.config.is_encoder_decoder:
        # Some models have one token for both ends.
        bos = eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        framed = [[bos, *piece, eos] for piece in pieces]
        batch = tokenizer.pad({"input_ids": [ids[:-1] for ids in framed]}, padding_side="right", return_tensors="pt")
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        return inputs, _pad_labels([ids[1:] for ids in framed])
    middles = [len(piece) // 2 for piece in pieces]
    sources = [[*piece[:middle], eos] for piece, middle in zip(pieces, middles, strict=True)]
    labels = _pad_labels([[*piece[middle:], eos] for piece, middle in zip(pieces, middles, strict=True)])
    batch = tokenizer.pad({"input_ids": sources}, padding_side="right", return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    decoder_input_ids = shift_right(labels, model.config.decoder_start_token_id, tokenizer.pad_token_id)
    return {**inputs, "decoder_input_ids": decoder_input_ids}, labels


def _pad_labels(labels: Sequence[Sequence[int] | torch.Tensor]) -> torch.Tensor:
    tensors = [torch.as_tensor(each) for each in labels]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=IGNORED_LABEL)
