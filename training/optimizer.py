"""Muon for the matrices of the blocks and AdamW for the rest, as one optimizer that a plain Trainer takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from transformers import TrainingArguments

from kakehashi.training.bfloat16 import computes_bfloat16

# The shipped recipes are tuned with this ratio.
OTHERS_RATE = 0.5

# Numbers of the matrices that Muon multiplies at once: 32 MiB in bfloat16.
STACKED = 2**24


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, many matrices at a time, and in float32 where bfloat16 would only be imitated."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps every matrix that has a gradient.

        Args:
            closure: Computes the loss again, for algorithms that need it. `None` in a Trainer.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrices in stackable([matrix for matrix in group["params"] if matrix.grad is not None]):
                self._step(matrices, group)
        return loss

    def _step(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        updates = [self._follow_momentum(matrix, group) for matrix in matrices]
        # A matrix by itself stays one, as those that are spread over devices must.
        together = torch.stack(updates) if len(updates) > 1 else updates[0]
        direction = orthogonalize(together, group["ns_coefficients"], group["ns_steps"], group["eps"])
        # The size that AdamW's steps have.
        size = group["lr"] * 0.2 * math.sqrt(max(matrices[0].shape))
        for matrix, step in zip(matrices, direction if len(updates) > 1 else [direction], strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(step, alpha=-size)

    def _follow_momentum(self, matrix: Tensor, group: dict[str, Any]) -> Tensor:
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum, buffer = group["momentum"], state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum) if group["nesterov"] else buffer


def stackable(matrices: Sequence[Tensor]) -> list[list[Tensor]]:
    """Groups matrices that can be multiplied together: of one shape, no more of them than `STACKED` numbers.

    Args:
        matrices: Those that are spread over devices are each in a group of its own.
    """
    groups: dict[Any, list[list[Tensor]]] = {}
    for matrix in matrices:
        alike = id(matrix) if isinstance(matrix, DTensor) else (matrix.shape, matrix.dtype, matrix.device)
        parts = groups.setdefault(alike, [[]])
        if parts[-1] and (len(parts[-1]) + 1) * matrix.numel() > STACKED:
            parts.append([])
        parts[-1].append(matrix)
    return [part for parts in groups.values() for part in parts]


def orthogonalize(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Brings all singular values of a matrix, or of each of several, near 1 by Newton-Schulz iteration.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    Args:
        matrices: Of any shape `(rows, columns)` or `(matrices, rows, columns)`.
        coefficients: Of the odd polynomial of degree five that every singular value goes through in each step.
        steps: Number of steps.
        eps: Least norm that a matrix is divided by.

    Returns:
        As `matrices`, in bfloat16 where the device computes in it and in float32 elsewhere.
    """
    linear, cubic, quintic = coefficients
    is_tall = matrices.size(-2) > matrices.size(-1)
    result = matrices.to(torch.bfloat16 if computes_bfloat16(matrices.device.type) else torch.float32)
    result = result.mT if is_tall else result
    result = result / result.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    add_product = torch.addmm if result.ndim == 2 else torch.baddbmm
    for _ in range(steps):
        gram = result @ result.mT
        polynomial = add_product(gram, gram, gram, beta=cubic, alpha=quintic)
        result = add_product(result, polynomial, result, beta=linear)
    return result.mT if is_tall else result


class MuonAdamW(Optimizer):
    """Steps Muon on the weight matrices of linear layers and AdamW on embeddings, norms and everything else.

    Muon turns each matrix's momentum into the nearest orthogonal matrix, so that every direction of it moves by the
    same amount, and scales the step to the size that AdamW's has. Embeddings and the output projection stay with
    AdamW, because their rows are looked up one by one, at half the learning rate.

    Give it to any Trainer: `Trainer(..., optimizers=(MuonAdamW(model, learning_rate=1e-2), None))`.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et al., "Muon is
    Scalable for LLM Training", 2025, section 2.2, for the scale. The steps are `torch.optim.Muon`'s.

    Args:
        model: Its parameters that require gradients are optimized.
        learning_rate: Learning rate of Muon; AdamW's is `OTHERS_RATE` of it.
        weight_decay: Decay of the matrices; the other parameters have none.
        betas: Decay rates of AdamW's two moments.
        eps: Added to AdamW's denominator.
        ns_steps: Steps of the Newton-Schulz iteration that makes the momentum orthogonal.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        ns_steps: int = 5,
    ) -> None:
        matrices, others = split_parameters(model)
        muon = Muon(
            matrices,
            lr=learning_rate,
            weight_decay=weight_decay,
            ns_steps=ns_steps,
            adjust_lr_fn="match_rms_adamw",
        )
        self.parts: list[Optimizer] = [muon]
        # Of low-rank adapters there is nothing but matrices.
        if others:
            rate = OTHERS_RATE * learning_rate
            self.parts.append(AdamW(others, lr=rate, betas=betas, eps=eps, weight_decay=0.0, fused=True))
        super().__init__([group for part in self.parts for group in part.param_groups], defaults={})
        self._share_state()

    def _share_state(self) -> None:
        """Lets the parts work on the groups and the state of the whole, so that saving the whole saves them."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups = [group]
            part.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share_state()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps both parts.

        Args:
            closure: Computes the loss again, for algorithms that need it. `None` in a Trainer.

        Returns:
            What the closure returned, or None.
        """
        # The first part computes the loss, and with it the gradients of all.
        loss = self.parts[0].step(closure)
        for part in self.parts[1:]:
            part.step()
        return loss


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Splits the trainable parameters into the matrices of the blocks and the others.

    Args:
        model: Its blocks are what stands in an `nn.ModuleList`, so that heads and embeddings count with the others.

    Returns:
        Weight matrices of the blocks' linear layers, and everything else, each parameter once.

    Raises:
        ValueError: If there is no matrix to optimize.
    """
    blocks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    linear = {id(part.weight) for block in blocks for part in block.modules() if isinstance(part, nn.Linear)}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if id(parameter) in linear]
    if not matrices:
        raise ValueError("`model` must have blocks with linear layers to train, got none that require a gradient")
    return matrices, [parameter for parameter in trainable if id(parameter) not in linear]


def muon_adamw(model: nn.Module, arguments: TrainingArguments) -> MuonAdamW:
    """The optimizer for a model with the learning rate, decay and AdamW settings of Trainer's arguments.

    Args:
        model: Model to train.
        arguments: Trainer's arguments.
    """
    return MuonAdamW(
        model,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
    )
