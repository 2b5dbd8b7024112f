"""How much memory training takes on one device, from the model's sizes alone.

    weights      4 bytes for each parameter, and under bfloat16 autocast 2 more for each entry of a matrix
    gradients    4 bytes for each parameter that is trained
    optimizer    AdamW: 8 bytes for each of these; Muon: 4 for each entry of a block's matrix, AdamW for the others
    activations  what the backward pass needs of the forward pass, see `activation_bytes`
    logits       their share of the loss: a few vectors for each label, or all logits where they are computed at once

What the allocator, the library of the device and the batch itself take comes on top: some hundred MB on an
accelerator, and with batches of changing lengths more for memory that lies in pieces.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from kakehashi.modeling import (
    KakehashiConfig,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
)
from kakehashi.modeling.loss_kakehashi import logits_at_once
from kakehashi.training.optimizer import split_parameters

__all__ = ["MemoryEstimate", "ParameterCounts", "activation_bytes", "estimate_memory", "model_on_meta"]

_MODEL_CLASSES = {
    "encoder-decoder": KakehashiForConditionalGeneration,
    "decoder": KakehashiForCausalLM,
    "encoder": KakehashiForMaskedLM,
}
_FULL, _HALF = 4, 2


@dataclass(frozen=True)
class ParameterCounts:
    """Where a model's parameters stand; each counts once, however often it is used.

    Attributes:
        embedding: The table of input embeddings, which may be the output projection as well.
        encoder: The rest of the encoder; 0 for a model without one.
        decoder: The rest of the decoder, or of a model of one stack that is no encoder.
        head: What stands outside the stacks, such as a classifier or an output projection of its own.
    """

    embedding: int
    encoder: int
    decoder: int
    head: int

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(astuple(self))

    @classmethod
    def of_model(cls, model: PreTrainedModel) -> ParameterCounts:
        """Counts a model's parameters; one on the meta device will do.

        Args:
            model: Any model.
        """
        embedding = model.get_input_embeddings()
        base = model.base_model
        is_single = not model.config.is_encoder_decoder
        is_decoder = is_single and (model.can_generate() or bool(getattr(model.config, "is_decoder", False)))
        encoder = getattr(base, "encoder", None)
        counted: set[int] = set()
        embeddings = _count_new(embedding, counted)
        encoders = 0 if is_decoder else _count_new(encoder if encoder is not None else base, counted)
        return cls(embeddings, encoders, _count_new(base, counted), _count_new(model, counted))


def _count_new(module: torch.nn.Module, counted: set[int]) -> int:
    """Returns the parameters of a module that no other has been counted with."""
    new = [parameter for parameter in module.parameters() if id(parameter) not in counted]
    counted.update(map(id, new))
    return sum(parameter.numel() for parameter in new)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device.

    Attributes:
        weights: The parameters, with their bfloat16 copies under autocast.
        gradients: Their gradients.
        optimizer: The optimizer's state.
        activations: What the backward pass needs; `None` for families whose layers are not ours.
        logits: What the loss needs.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float | None
    logits: float

    @property
    def total(self) -> float:
        """All together, without activations where these are unknown."""
        return self.weights + self.gradients + self.optimizer + (self.activations or 0.0) + self.logits


def model_on_meta(config: KakehashiConfig) -> PreTrainedModel:
    """Returns the language model of a configuration's shape without weights.

    Args:
        config: A kakehashi configuration, such as `KakehashiConfig.preset("base")`.
    """
    with torch.device("meta"):
        return _MODEL_CLASSES[config.shape](config)


def estimate_memory(
    model: PreTrainedModel,
    *,
    source_tokens: float,
    target_tokens: float = 0.0,
    labels: float | None = None,
    use_muon: bool = False,
    bf16: bool = True,
    gradient_checkpointing: bool = False,
    chunked_loss: bool = True,
    shards: int = 1,
    device_type: str = "cuda",
) -> MemoryEstimate:
    """Returns what training takes on one device.

    Args:
        model: The model; one on the meta device will do, see `model_on_meta`.
        source_tokens: Slots of `input_ids` in a batch of one device, padding included.
        target_tokens: Slots of `decoder_input_ids`.
        labels: Positions with a label; `None` means every target slot, or every source slot without a target.
        use_muon: Whether MuonAdamW trains it, in place of AdamW.
        bf16: Whether products are computed in bfloat16 by autocast.
        gradient_checkpointing: Whether layers are computed once more in the backward pass.
        chunked_loss: Whether logits are computed piece by piece.
        shards: Devices that weights, gradients and optimizer state are divided among (FSDP).
        device_type: Decides how large the pieces of the loss are.
    """
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    matrices = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 2)
    moments = 2 * trained
    if use_muon:
        moments -= sum(parameter.numel() for parameter in split_parameters(model)[0])
    weights = _FULL * model.num_parameters() + _HALF * matrices * bf16
    activations = None
    if isinstance(model.config, KakehashiConfig):
        tokens = (source_tokens, target_tokens)
        activations = activation_bytes(model.config, *tokens, bf16=bf16, gradient_checkpointing=gradient_checkpointing)
    if labels is None:
        labels = target_tokens or source_tokens
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    piece = logits_at_once(device_type) if chunked_loss else None
    logits = 0.0 if head is None else _logit_bytes(model.config, labels, bf16=bf16, piece=piece)
    return MemoryEstimate(weights / shards, _FULL * trained / shards, _FULL * moments / shards, activations, logits)


def _logit_bytes(config: Any, labels: float, *, bf16: bool, piece: int | None) -> float:
    """Returns the bytes of logits, log-probabilities and the gradient of either; `piece` logits exist at a time."""
    if piece is not None:
        # The states with a label, their gradient and the projection's, and one piece of logits.
        held = min(labels * config.vocab_size, piece) * (_HALF if bf16 else _FULL)
        return (2 * labels + config.vocab_size) * _FULL * config.hidden_size + held
    entry = (2 * _HALF + 3 * _FULL) if bf16 else 3 * _FULL
    return labels * config.vocab_size * entry


def activation_bytes(
    config: KakehashiConfig,
    source_tokens: float,
    target_tokens: float = 0.0,
    *,
    bf16: bool = True,
    gradient_checkpointing: bool = False,
) -> float:
    """Returns the bytes that the forward pass keeps for the backward pass, logits left out.

    With h = `hidden_size`, q = `num_attention_heads · head_dim`, kv = `num_key_value_heads · head_dim` and
    i = `intermediate_size`, a layer keeps for each token so many features, without a mask and without the scores,
    which sdpa and the flash kernels never keep; a test counts them:

        encoder layer                  6·h + 4·q + 4·kv + 4·i
          in bfloat16 among them       2·h + 2·q + 2·kv + 4·i
        cross-attention adds           3·h + 4·q, and 4·kv for each token of the source

    Args:
        config: The model's sizes.
        source_tokens: Slots of `input_ids`, padding included; of a model of one stack all of them.
        target_tokens: Slots of `decoder_input_ids`.
        bf16: Whether products are computed in bfloat16 by autocast; norms and the residual stream stay float32.
        gradient_checkpointing: Whether a layer keeps its input alone. The largest layer is then computed once more
            and kept while its backward pass runs.
    """
    # The configuration has filled both in.
    assert config.head_dim is not None
    assert config.num_key_value_heads is not None
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    heads = _HALF * 2 + _FULL * 2 if bf16 else _FULL * 4
    layer = heads * (queries + keys)
    layer += (_FULL * 4 + _HALF * 2) * hidden + _HALF * 4 * inner if bf16 else _FULL * (6 * hidden + 4 * inner)
    cross = (_FULL * 2 + _HALF if bf16 else _FULL * 3) * hidden + heads * queries
    cross_source = heads * keys
    entry = _FULL * hidden
    if config.shape != "encoder-decoder":
        layers = config.num_encoder_layers if config.shape == "encoder" else config.num_decoder_layers
        kept = layers * (entry if gradient_checkpointing else layer) + (layer if gradient_checkpointing else 0)
        return source_tokens * (kept + 4 * entry)
    in_encoder = source_tokens * layer
    in_decoder = target_tokens * (layer + cross) + source_tokens * cross_source
    ends = (source_tokens + target_tokens) * 3 * entry
    encoders, decoders = config.num_encoder_layers, config.num_decoder_layers
    if not gradient_checkpointing:
        return encoders * in_encoder + decoders * in_decoder + ends
    inputs = (source_tokens * encoders + target_tokens * decoders) * entry
    return inputs + max(in_encoder, in_decoder) + ends
