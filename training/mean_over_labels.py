"""Losses that are means over labels, in a step and in a validation, however batches and processes cut these."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput

from kakehashi.modeling import KakehashiConfig
from kakehashi.training.objectives import IGNORED_LABEL
from kakehashi.training.processes import sum_over_processes


class MeanOverLabels(Seq2SeqTrainer):
    """Seq2SeqTrainer in which every label weighs the same, whatever batch and process it stands in.

    A validation of three texts with 1, 1 and 4 labels, whose losses are 1, 3 and four times 1:

        Trainer, batches of 2    (2 * 2 + 1 * 1) / 3 = 1.67     the mean of each batch weighs as many as it has rows
        Trainer, batches of 3    8 / 6 = 1.33
        here                     8 / 6 = 1.33

    Where labels are not tokens, as in classification, a validation is Trainer's own.
    """

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | int | None:
        """Returns the labels of a step; where they are numbers to predict, -100 is one like any other."""
        labels = batch_samples[0].get("labels") if batch_samples else None
        if torch.is_tensor(labels) and labels.is_floating_point():
            batch_samples = [{"labels": torch.zeros_like(batch["labels"])} for batch in batch_samples]
        return super()._get_num_items_in_batch(batch_samples, device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Returns the loss of a batch as its part of the mean over the labels of the step.

        kakehashi's models divide by the labels of the step. Those of other families do, or return the mean of the
        batch whatever they are told: they are asked for this mean, and it counts by its labels.
        """
        divides = (
            isinstance(getattr(self.model, "config", None), KakehashiConfig) or self.compute_loss_func is not None
        )
        if divides or num_items_in_batch is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][..., 1:] if self._loss_shifts_labels else inputs["labels"]
        count = labels.ne(IGNORED_LABEL).sum()
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        # The processes' gradients are averaged, so that each has to give as many times its part.
        processes = self.args.world_size if self.args.average_tokens_across_devices else 1
        part = count * processes / torch.as_tensor(num_items_in_batch).clamp(min=1)
        # The mean of no label is no number.
        loss = torch.where(count > 0, loss, 0.0) * part
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Validates a batch and keeps its loss, summed over the labels, with their number."""
        labels = inputs.get("labels")
        if labels is None or labels.ndim < 2 or labels.is_floating_point():
            return super().prediction_step(model, inputs, *args, **kwargs)
        inputs = {**inputs, "labels": self._without_copies(labels)}
        step: Any = super().prediction_step(model, inputs, *args, **kwargs)
        # Those of all processes: the loss is divided by these, and multiplied by the number of processes.
        count = self._get_num_items_in_batch([inputs], self.args.device)
        if torch.is_tensor(count):
            self._validated.append(torch.stack((step[0].float() * count, count)))
        return step

    def _without_copies(self, labels: torch.Tensor) -> torch.Tensor:
        """Returns labels without those of rows that are there twice, to fill up the last batches of several processes.

        Process after process holds the rows of a step, first those that are left and then the copies.
        """
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader or state.remainder <= 0:
            return labels
        own = max(0, state.remainder - self.args.process_index * len(labels))
        return torch.cat((labels[:own], torch.full_like(labels[own:], IGNORED_LABEL)))

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Validates; the loss is the mean over all labels that are tokens, and every row is measured once."""
        self._validated: list[torch.Tensor] = []
        if not getattr(self.args, "predict_with_generate", False):
            # Seq2SeqTrainer's own would measure the copies that fill up the last batches of several processes, too.
            self.gather_function = self.accelerator.gather_for_metrics
        output = super().evaluation_loop(*args, **kwargs)
        if self._validated and output.metrics is not None:
            total, count = sum_over_processes(torch.stack(self._validated).sum(dim=0)).tolist()
            output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_loss"] = total / max(count, 1)
        return output
