"""R-Drop: a classifier sees each text twice, under two draws of chance, and learns to answer the same.

    text          I love cats </s>
    first view    I love cats </s>      answers  .7 .2 .1    cross entropy of each view with the label
    second view   I love cats </s>               .6 .3 .1    + `r_drop_alpha` x how far the answers are apart

Chance is dropout, and which tokens are hidden (`mask_probability`).

`SeeTwice` lets training batches hold each text twice, `disagreement` says how far the answers are apart, and
`ClassificationLoss` adds it to the loss.

Source:
    Liang et al., "R-Drop: Regularized Dropout for Neural Networks", 2021.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import PreTrainedConfig, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kakehashi.training.collators import TwiceCollator, replace_collator


class SeeTwice(TrainerCallback):
    """Lets the training batches of any Trainer hold each example twice, those of validation once."""

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader | None = None,
        **kwargs: Any,
    ) -> None:
        """Replaces the collator of the training loader, which is the same in every epoch."""
        replace_collator(
            train_dataloader,
            lambda collate: collate if isinstance(collate, TwiceCollator) else TwiceCollator(collate),
        )


def disagreement(logits: torch.Tensor, problem_type: str) -> torch.Tensor:
    """Returns how far the two answers to each text are apart, summed over the texts, a scalar.

    The mean of the Kullback-Leibler divergences from the first to the second and back: of the probabilities of the
    labels where one is right, of each label's presence where several may be, and of normal distributions of variance
    1 around numbers, which is half their squared difference.

    Args:
        logits: `(2 * texts, num_labels)`, the two answers to a text one below the other.
        problem_type: As Transformers names it.
    """
    if problem_type == "regression":
        return (logits[0::2] - logits[1::2]).square().sum() / 2
    if problem_type == "multi_label_classification":
        log_probabilities = torch.stack((F.logsigmoid(logits), F.logsigmoid(-logits)), dim=-1)
    else:
        log_probabilities = F.log_softmax(logits, dim=-1)
    first, second = log_probabilities[0::2], log_probabilities[1::2]
    return ((first.exp() - second.exp()) * (first - second)).sum() / 2


def require_dropout(config: PreTrainedConfig, lora_dropout: float = 0.0) -> None:
    """Refuses a model whose two answers would be the same.

    Args:
        config: Its configuration.
        lora_dropout: Dropout before its adapters.

    Raises:
        ValueError: If nothing is dropped.
    """
    shares = [value for name, value in config.to_dict().items() if "dropout" in name]
    if not any(isinstance(share, (int, float)) and share > 0 for share in [*shares, lora_dropout]):
        raise ValueError(
            "`r_drop_alpha` compares two answers that differ by dropout, so the model must have some, got none: "
            "add `config_overrides: {dropout: 0.1}` or `mask_probability: 0.15`"
        )
