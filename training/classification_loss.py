"""The loss of a classifier, for the `compute_loss_func` of any Trainer: weighted labels, smoothed targets, R-Drop."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from kakehashi.training.arguments import BALANCED
from kakehashi.training.r_drop import disagreement


@dataclass(frozen=True)
class ClassificationLoss:
    """Cross entropy in which some labels count more than others.

    Three texts, of which the second has a label of weight 4:

        losses   0.2  0.5  0.8        weights   1    4    1
        loss     (0.2 + 4 * 0.5 + 0.8) / 3

    The sum is divided by the number of texts in the whole optimizer step, not by that of their weights, so that a
    batch is worth the same whichever labels it holds and however the step is cut into smaller batches.

    Give it to any Trainer: `Trainer(..., compute_loss_func=ClassificationLoss(problem_type, weights))`.

    Attributes:
        problem_type: As Transformers names it.
        weights: Weight of each label, shape (num_labels,). Where one label is right it weighs the text; where several
            are, it weighs the part of the loss that asks for this label, in texts that have it. None weighs all alike.
        label_smoothing: Share of each target that is spread evenly over the labels, at least 0 and below 1; where
            labels hold or not by themselves, over both answers.
        r_drop_alpha: Factor on the mean `disagreement` of the two answers to a text, where gradients are wanted: there
            each text must stand in the batch twice, see `r_drop.py`.

    Raises:
        ValueError: If weights or smoothing are given for regression.
    """

    problem_type: str
    weights: torch.Tensor | None = None
    label_smoothing: float = 0.0
    r_drop_alpha: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what regression has no use for."""
        if self.problem_type == "regression" and (self.weights is not None or self.label_smoothing):
            key = "class_weights" if self.weights is not None else "label_smoothing_factor"
            raise ValueError(f"`{key}` must be left out for regression, which has numbers and no classes")

    def __call__(
        self, outputs: Mapping[str, Any], labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the loss, a scalar.

        Args:
            outputs: Of the model, with `logits` of shape (batch, num_labels).
            labels: Label ids, shape (batch,); zeros and ones, shape (batch, num_labels); or numbers, shape (batch,).
            num_items_in_batch: Numbers in the labels of the whole optimizer step. None means those of this batch.
        """
        logits = outputs["logits"].float()
        weights = None if self.weights is None else self.weights.to(logits)
        if self.problem_type == "regression":
            total = F.mse_loss(logits.reshape(labels.shape), labels.to(logits), reduction="sum")
        elif self.problem_type == "multi_label_classification":
            targets = labels.to(logits) * (1 - self.label_smoothing) + self.label_smoothing / 2
            # Not `pos_weight`: it would weigh the smoothed share of a label that a text lacks as well.
            each = None if weights is None else torch.where(labels > 0, weights, 1.0)
            total = F.binary_cross_entropy_with_logits(logits, targets, weight=each, reduction="sum")
        else:
            # Torch's own weights would, with smoothing, weigh every label's share of the target by itself.
            losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
            total = losses.sum() if weights is None else (losses * weights[labels]).sum()
        if self.r_drop_alpha and logits.requires_grad:
            # There are half as many texts as rows.
            total = total + 2 * self.r_drop_alpha * disagreement(logits, self.problem_type)
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


def find_class_weights(
    setting: str | Mapping[Any, Any] | None, examples: Dataset, names: Sequence[str], problem_type: str
) -> torch.Tensor | None:
    """Returns the weight of each label, shape (num_labels,), or None if all weigh alike.

    `balanced` gives all labels the same say. Where one label is right, its weight is the number of rows over (number
    of labels x rows with the label), so that weights are 1 on average over the rows. Where several are, it is the
    rows without the label over the rows with it. A label that no row has keeps the weight 1.

    Args:
        setting: `balanced`, or a mapping of label names to weights in which absent labels weigh 1; None for none.
        examples: Tokenized training rows with `labels`.
        names: Name of each label id.
        problem_type: As Transformers names it.

    Raises:
        ValueError: If the labels are numbers, or the mapping names no label, or a weight is not positive.
    """
    if setting is None:
        return None
    if problem_type == "regression":
        raise ValueError("`class_weights` must be left out for regression, which has numbers and no classes")
    if isinstance(setting, str):
        labels = np.asarray(examples.with_format("numpy")["labels"][:])
        return torch.from_numpy(_balanced(labels, len(names))).float()
    weights = torch.ones(len(names))
    ids = {name: index for index, name in enumerate(names)}
    for name, weight in setting.items():
        if str(name) not in ids:
            nearest = difflib.get_close_matches(str(name), list(ids), n=1, cutoff=0.0)[0]
            raise ValueError(
                f"`class_weights` must name labels of the training rows, got {name!r}; nearest: {nearest!r}"
            )
        weights[ids[str(name)]] = float(weight)
    return weights


def _balanced(labels: NDArray[Any], num_labels: int) -> NDArray[np.float64]:
    """Returns the weights that give all labels the same say."""
    weights = np.ones(num_labels)
    if labels.ndim == 2:
        positives = labels.sum(axis=0)
        present = np.flatnonzero((positives > 0) & (positives < len(labels)))
        weights[present] = (len(labels) - positives[present]) / positives[present]
    else:
        present = np.unique(labels)
        weights[present] = compute_class_weight(BALANCED, classes=present, y=labels)
    return weights
