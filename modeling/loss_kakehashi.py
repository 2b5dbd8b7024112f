# Copyright 2026 The kakehashi authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Labels and the loss: what the decoder reads, what stands beside each label, and the cross entropy between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .attention_kakehashi import product_dtype
from .configuration_kakehashi import KakehashiConfig
from .packing_kakehashi import rounded_size, segment_starts


def logits_at_once(device_type: str) -> int:
    """Logits of one piece of the loss: on a CPU few enough to stay near the processor, elsewhere many more.

    On an accelerator the gradient of the projection, which each piece is added to, takes longer to read and write than
    a small piece to compute.
    """
    return 2**24 if device_type == "cpu" else 2**27


def shift_right(
    labels: torch.Tensor, start_token_id: int, pad_token_id: int, segment_ids: torch.Tensor | None = None
) -> torch.Tensor:
    """Decoder inputs for the labels: the start token, then every label but the last; anew in each segment.

        labels       私  は  猫  </s>  -100        labels       猫   </s> 犬   </s>
        returns      <s> 私  は  猫    </s>        segment_ids  1    1    2    2
                                                   returns      <s>  猫   <s>  犬

    Args:
        labels: `(batch, target_length)`, -100 where there is nothing to predict.
        start_token_id: Id of the first decoder input.
        pad_token_id: Id put where a label is -100.
        segment_ids: `(batch, target_length)`, where rows are packed.

    Raises:
        ValueError: If labels and segment ids differ in shape.
    """
    shifted = F.pad(labels[:, :-1], (1, 0), value=start_token_id)
    if segment_ids is not None:
        _check_shapes(labels, segment_ids)
        shifted = shifted.masked_fill(segment_starts(segment_ids), start_token_id)
    return shifted.masked_fill(shifted == -100, pad_token_id)


def up_to_last_label(labels: torch.Tensor) -> torch.Tensor:
    """A mask, `(batch, length)`: 1 up to the last label of each row, 0 where nothing is left to predict.

        labels   a  -100  b  -100 -100   →   1 1 1 0 0

    Args:
        labels: `(batch, length)`, -100 where there is nothing to predict.
    """
    return (labels != -100).flip(-1).cummax(dim=-1).values.flip(-1).long()


def shift_left(labels: torch.Tensor, segment_ids: torch.Tensor | None = None) -> torch.Tensor:
    """Labels beside the position that predicts them, one place to the left; none across the end of a segment.

        labels       <s> 私  猫  </s>  <s> 犬  </s>
        segment_ids  1   1   1   1     2   2   2
        returns      私  猫  </s> -100 犬 </s> -100

    Args:
        labels: `(batch, length)`, -100 where there is nothing to predict.
        segment_ids: `(batch, length)`, where rows are packed.

    Raises:
        ValueError: If labels and segment ids differ in shape.
    """
    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    if segment_ids is not None:
        _check_shapes(labels, segment_ids)
        next_segment = F.pad(segment_ids[:, 1:], (0, 1))
        shifted = shifted.masked_fill(next_segment != segment_ids, -100)
    return shifted


def _check_shapes(labels: torch.Tensor, segment_ids: torch.Tensor) -> None:
    if labels.shape != segment_ids.shape:
        raise ValueError(
            f"Segment ids must be of the shape of the labels, {tuple(labels.shape)}, got {tuple(segment_ids.shape)}."
        )


@dataclass(frozen=True)
class TokenLoss:
    """Cross entropy of each label with the logits beside it, summed in float32, divided by the number of labels.

    Attributes:
        label_smoothing: Part of each label's probability, 0 to 1, that is spread over the whole vocabulary (Szegedy et
            al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7).
        z_loss_weight: Weight of the squared log of the softmax's denominator, which keeps logits from drifting
            (Chowdhery et al., "PaLM", 2022, section 5; 1e-4 there).
        chunked: Whether training computes logits piece by piece and never all at once, see `CrossEntropyByPieces`.
            `None` does so where that pays: with more labels than features.
    """

    label_smoothing: float = 0.0
    z_loss_weight: float = 0.0
    chunked: bool | None = None

    @classmethod
    def of(cls, config: KakehashiConfig) -> TokenLoss:
        """The loss that a configuration asks for."""
        return cls(config.label_smoothing, config.z_loss_weight, config.chunked_loss)

    def from_logits(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None = None
    ) -> torch.Tensor:
        """The loss of logits that are there already.

        Args:
            logits: `(positions, vocab_size)`.
            labels: `(positions,)`, -100 where a position does not count.
            num_items_in_batch: What the sum is divided by: the labels of the whole optimizer step, when one forward
                sees only a part of it. `None` divides by the labels given.

        Returns:
            A scalar; 0 when there is no label at all.
        """
        logits = logits.float()
        total = F.cross_entropy(
            logits, labels, ignore_index=-100, reduction="sum", label_smoothing=self.label_smoothing
        )
        if self.z_loss_weight:
            log_denominators = logits.logsumexp(dim=-1).masked_fill(labels == -100, 0.0)
            total = total + self.z_loss_weight * log_denominators.square().sum()
        return _divide(total, labels, num_items_in_batch)

    def from_states(
        self,
        hidden_states: torch.Tensor,
        lm_head: nn.Module,
        labels: torch.Tensor,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of states that are still to be projected to the vocabulary; only those with a label are.

        Padding then costs neither time nor memory in the largest matrix product of the model.

        Args:
            hidden_states: `(batch, length, hidden_size)`.
            lm_head: The output projection.
            labels: `(batch, length)`, -100 where a position does not count.
            num_items_in_batch: See `from_logits`.

        Returns:
            As `from_logits`, to the last few bits.
        """
        has_label = labels != -100
        hidden_states, labels = hidden_states[has_label], labels[has_label]
        count = len(labels)
        if hidden_states.device.type == "cpu":
            # Not asked whether there is any: a compiled graph could not answer.
            filler = rounded_size(count, hidden_states) - count
            hidden_states = torch.cat((hidden_states, hidden_states.new_zeros(filler, hidden_states.shape[-1])))
            labels = torch.cat((labels, labels.new_full((filler,), -100)))
        if not self._in_chunks(hidden_states, lm_head):
            return self.from_logits(lm_head(hidden_states), labels, num_items_in_batch)
        weight: Any = lm_head.weight
        total = CrossEntropyByPieces.apply(hidden_states.to(product_dtype(weight)), weight, labels, count)
        return _divide(total, labels, num_items_in_batch)

    def _in_chunks(self, hidden_states: torch.Tensor, lm_head: nn.Module) -> bool:
        # Exactly `nn.Linear`: a wrapper, such as an adapter or a quantized layer, computes more than a product.
        possible = type(lm_head) is nn.Linear and lm_head.bias is None
        # The gradient is computed along with the loss, of the plain cross entropy alone.
        possible = possible and torch.is_grad_enabled() and not self.label_smoothing and not self.z_loss_weight
        if self.chunked is not None:
            return self.chunked and possible
        # It is not traced by `torch.compile`, which fuses the plain form just as well.
        if not possible or torch.compiler.is_compiling():
            return False
        return len(hidden_states) >= hidden_states.shape[-1]


class CrossEntropyByPieces(torch.autograd.Function):
    """Cross entropy of projected states, summed, whose logits exist for a few positions at a time.

    The gradient of the logits, the softmax less one at the label, is there as soon as the logits are. It is multiplied
    on to the states and the projection at once; nothing of the size of the vocabulary is kept for the backward pass
    (Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", 2024, section 3.2).

    torch's own `linear_cross_entropy` adds up the pieces of a loss in half precision, which is percents off.
    """

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, count: int
    ) -> torch.Tensor:
        """Computes the loss, a scalar in float32, and both gradients.

        Args:
            ctx: Keeps the gradients.
            states: `(positions, hidden_size)`, in the dtype of the products.
            weight: `(vocab_size, hidden_size)`, in the dtype of its gradient.
            labels: `(positions,)`, each an entry of the vocabulary; behind them -100 where a position does not count.
            count: How many are entries of the vocabulary.
        """
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        states_gradient = torch.empty_like(states)
        weight_gradient = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        projection = weight.to(states.dtype)
        transposed = projection.t().contiguous()
        size = max(1, logits_at_once(states.device.type) // len(weight))
        # Reused, because memory that is fresh from the system costs more time than what is computed in it.
        room = states.new_empty(min(size, len(states)), len(weight))
        weight_room = torch.empty_like(projection)
        pieces = zip(states.split(size), labels.split(size), states_gradient.split(size), strict=True)
        for number, (piece, wanted, gradient) in enumerate(pieces):
            logits = torch.mm(piece, transposed, out=room[: len(piece)])
            counted = min(len(piece), max(0, count - number * size))
            at_labels = (torch.arange(counted, device=wanted.device), wanted[:counted])
            largest, of_labels = logits[:counted].amax(dim=-1).float(), logits[at_labels].float()
            errors = torch.softmax(logits, dim=-1, out=logits)
            # The denominator is that of the largest probability, which is far from nothing.
            losses = largest - errors[:counted].amax(dim=-1).float().log() - of_labels
            total += losses.sum()
            errors[at_labels] = torch.expm1(-losses).to(errors.dtype)
            errors[counted:] = 0
            torch.mm(errors, projection, out=gradient)
            if weight_gradient is not None:
                weight_gradient += torch.mm(errors.t(), piece, out=weight_room)
        ctx.save_for_backward(states_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        """Scales what the forward pass has computed."""
        states_gradient, weight_gradient = ctx.saved_tensors
        (scale,) = gradients
        return states_gradient * scale, None if weight_gradient is None else weight_gradient * scale, None, None


def _divide(total: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None) -> torch.Tensor:
    if num_items_in_batch is None:
        num_items_in_batch = (labels != -100).sum()
    # Of no labels at all the loss is 0.
    if torch.is_tensor(num_items_in_batch):
        return total / num_items_in_batch.to(total.device).clamp(min=1)
    return total / max(num_items_in_batch, 1)
