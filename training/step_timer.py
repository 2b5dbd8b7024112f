"""Times a few training steps, for an estimate that rests on this machine and this model."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import PreTrainedConfig, Seq2SeqTrainingArguments

from kakehashi.training.arguments import StageArguments
from kakehashi.training.attention import set_attention
from kakehashi.training.bfloat16 import autocast_of
from kakehashi.training.compilation import compile_layers, draw_like_eager
from kakehashi.training.flops import ModelFlops, Workload
from kakehashi.training.freezing import freeze_parts
from kakehashi.training.lora import add_adapter
from kakehashi.training.optimizer import muon_adamw
from kakehashi.training.throughput import count_batch

_MAX_STEPS = 20
# Layers are compiled anew when a second length comes, and again for lengths of another order of magnitude.
_WARM_UP_STEPS, _COMPILING_STEPS = 1, 6


@dataclass(frozen=True)
class TimedSteps:
    """What a few steps took.

    Attributes:
        steps: How many were timed, those that warm up and compile left out.
        seconds: Time of all of them.
        tokens: Real source and target tokens in them.
        flops: Operations that these asked for.
    """

    steps: int
    seconds: float
    tokens: int
    flops: float


def time_steps(
    auto_class: Any,
    config: PreTrainedConfig,
    arguments: StageArguments,
    training_arguments: Seq2SeqTrainingArguments,
    batches: Sequence[dict[str, torch.Tensor]],
    max_seconds: float = 20.0,
) -> TimedSteps:
    """Trains a new model, or adapters on it, for a few steps and forgets it.

    Args:
        auto_class: Auto class of the head.
        config: The model's configuration; its weights are drawn at random, whatever the recipe starts from.
        arguments: The stage's arguments.
        training_arguments: Trainer's arguments.
        batches: Batches of the run; used again from the beginning where they are too few.
        max_seconds: No step begins later than this.
    """
    device = training_arguments.device
    with torch.random.fork_rng(devices=[]):
        plain = auto_class.from_config(config)
        set_attention(plain, arguments, training_arguments)
        model: Any = add_adapter(plain, arguments)
        model.to(device).train()
        freeze_parts(model, arguments)
        is_compiled = arguments.compile_layers or training_arguments.torch_compile
        if is_compiled:
            draw_like_eager(device)
        if arguments.compile_layers:
            compile_layers(model)
        if training_arguments.torch_compile:
            model.compile(backend=training_arguments.torch_compile_backend, mode=training_arguments.torch_compile_mode)
        if training_arguments.gradient_checkpointing:
            # The older name goes with Transformers 6, the newer one came with 5.23.
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable(training_arguments.gradient_checkpointing_kwargs)
        optimizer = _make_optimizer(model, arguments, training_arguments)
        costs = ModelFlops.of_model(model).with_backward(model)
        # Batches that were met before would be faster: kernels for their shapes are there already.
        upcoming = itertools.cycle(batches)
        for batch in itertools.islice(upcoming, _COMPILING_STEPS if is_compiled else _WARM_UP_STEPS):
            _step(model, optimizer, batch, training_arguments)
        steps, tokens, flops = 0, 0, 0.0
        start = time.perf_counter()
        while steps < _MAX_STEPS and (not steps or time.perf_counter() - start < max_seconds):
            batch = next(upcoming)
            counts = count_batch(batch, bool(model.config.is_encoder_decoder), model.can_generate())
            work = Workload(*counts.tolist()[1:])
            _step(model, optimizer, batch, training_arguments)
            steps += 1
            tokens += int(work.source_tokens + work.target_tokens)
            flops += costs.forward(work)
        return TimedSteps(steps, time.perf_counter() - start, tokens, flops)


def _make_optimizer(
    model: torch.nn.Module, arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments
) -> Optimizer:
    if arguments.use_muon:
        return muon_adamw(model, training_arguments)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=training_arguments.learning_rate)


def _step(
    model: Any,
    optimizer: Optimizer,
    batch: dict[str, torch.Tensor],
    training_arguments: Seq2SeqTrainingArguments,
) -> None:
    with autocast_of(training_arguments):
        loss = model(**{name: tensor.to(training_arguments.device) for name, tensor in batch.items()}).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    # Reading the loss waits for an accelerator.
    loss.item()
