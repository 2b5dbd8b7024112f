"""How a model computes attention while it trains."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, Seq2SeqTrainingArguments

from kakehashi.modeling import KakehashiConfig
from kakehashi.training.arguments import SequenceStageArguments, StageArguments

# The flash kernel runs from Ampere on.
_OLDEST_FLASH = (8, 0)


def set_attention(
    model: PreTrainedModel, arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments
) -> None:
    """Sets how a model computes attention: as the recipe says, or in the fastest way that is known to be exact.

    Args:
        model: Model to change in place.
        arguments: `attn_implementation`, and `packing` where the stage has it.
        training_arguments: What the kernels depend on: device and precision.

    Raises:
        ValueError: If the implementation cannot be used.
    """
    chosen = arguments.attn_implementation
    if chosen is None and _should_run_varlen(model, arguments, training_arguments):
        chosen = "varlen"
    if chosen is None:
        return
    try:
        model.set_attn_implementation(chosen)
    except (ValueError, ImportError) as error:
        raise ValueError(f"`attn_implementation` {chosen!r} cannot be used: {' '.join(str(error).split())}") from error


def _should_run_varlen(
    model: PreTrainedModel, arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments
) -> bool:
    """Whether attention without padding can run and gains: on a CPU by blocks, on CUDA by a kernel for packed rows."""
    config = model.config
    if not isinstance(config, KakehashiConfig):
        return False
    if config.position_embedding_type == "relative_bias" or config.attention_dropout:
        return False
    device = training_arguments.device
    if device.type == "cuda":
        is_half = training_arguments.bf16 or training_arguments.fp16 or config.dtype in (torch.bfloat16, torch.float16)
        is_packed = isinstance(arguments, SequenceStageArguments) and arguments.packing
        return is_half and is_packed and torch.cuda.get_device_capability(device) >= _OLDEST_FLASH
    return device.type == "cpu"
