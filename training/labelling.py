"""Running texts through a classifier: the numbers it gives, and the labels they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.training.encoding import encode_to_fit
from kakehashi.training.inference import (
    DEFAULT_BATCH_SIZE,
    MemoryAdvice,
    batches_by_length,
    require_text,
    to_model,
)

DEFAULT_THRESHOLD = 0.5
"""A label of a multi-label model holds from this probability on."""


@torch.inference_mode()
def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_batch: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Returns what a classifier says about each text, shape (texts, num_labels), on the processor.

    Labels that exclude each other share one softmax; for a multi-label model each has a probability of its own; a
    regression model gives its numbers as they are.

    Args:
        model: From `load_for_classification`.
        tokenizer: Its tokenizer.
        texts: The texts.
        batch_size: Texts that run through the model together.
        on_batch: Called after each batch with its number of texts, for a progress bar.

    Raises:
        ValueError: If a text is empty or a batch does not fit into memory.
    """
    require_text(texts)
    sources = encode_to_fit(model, tokenizer, texts)
    assert model.config.num_labels is not None
    scores = torch.zeros(len(texts), model.config.num_labels)
    for indices in batches_by_length([len(source) for source in sources], batch_size):
        batch = tokenizer.pad({"input_ids": [sources[index] for index in indices]}, return_tensors="pt")
        with MemoryAdvice(len(indices)):
            logits = model(**to_model(batch, model)).logits.float()
        scores[indices] = _scale(logits, model.config).cpu()
        if on_batch is not None:
            on_batch(len(indices))
    return scores


def classify_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_batch: Callable[[int], None] | None = None,
) -> list[tuple[str, float]]:
    """Returns the likeliest label of each text and its probability, in order.

    For a regression model the number stands in place of the probability. `label_texts` gives every label that holds.

    Args:
        model: From `load_for_classification`.
        tokenizer: Its tokenizer.
        texts: The texts.
        batch_size: Texts that run through the model together.
        on_batch: Called after each batch with its number of texts, for a progress bar.

    Raises:
        ValueError: If a text is empty or a batch does not fit into memory.
    """
    best = score_texts(model, tokenizer, texts, batch_size=batch_size, on_batch=on_batch).max(dim=-1)
    names: Any = model.config.id2label
    return [
        (names[label_id], score) for label_id, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def label_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_batch: Callable[[int], None] | None = None,
) -> list[list[tuple[str, float]]]:
    """Returns the labels of each text that hold, with their probabilities, likeliest first.

    Of labels that exclude each other that is the likeliest one; of a multi-label model all that reach the threshold,
    which may be none; of a regression model each of its numbers.

    Args:
        model: From `load_for_classification`.
        tokenizer: Its tokenizer.
        texts: The texts.
        threshold: Least probability of a label of a multi-label model, between 0 and 1.
        batch_size: Texts that run through the model together.
        on_batch: Called after each batch with its number of texts, for a progress bar.

    Raises:
        ValueError: If the threshold is out of bounds, a text is empty or a batch does not fit into memory.
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"`threshold` must be between 0 and 1, got {threshold}")
    scores = score_texts(model, tokenizer, texts, batch_size=batch_size, on_batch=on_batch)
    names: Any = model.config.id2label
    labelled = []
    for row in scores.tolist():
        pairs = [(names[label_id], score) for label_id, score in enumerate(row)]
        if has_several_labels(model.config):
            pairs = sorted((pair for pair in pairs if pair[1] >= threshold), key=lambda pair: -pair[1])
        elif model.config.problem_type != "regression":
            pairs = [max(pairs, key=lambda pair: pair[1])]
        labelled.append(pairs)
    return labelled


def has_several_labels(config: PreTrainedConfig) -> bool:
    """Returns whether each label of a classifier holds or not by itself."""
    is_lone = config.num_labels == 1 and config.problem_type != "regression"
    return config.problem_type == "multi_label_classification" or is_lone


def _scale(logits: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    if config.problem_type == "regression":
        return logits
    return logits.sigmoid() if has_several_labels(config) else logits.softmax(dim=-1)
