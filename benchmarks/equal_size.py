"""Peers of a kakehashi model with as many parameters: their feed-forward width is what makes the counts equal."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
    T5GemmaModuleConfig,
)

from kakehashi import KakehashiConfig


def count_parameters(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> int:
    """Returns the parameters of a model that is never given memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model_class(config).parameters())


def match_parameters(
    model_class: type[PreTrainedModel], configure: Callable[[int], PreTrainedConfig], target: int
) -> PreTrainedConfig:
    """Returns the configuration whose model comes nearest to a number of parameters.

    Args:
        model_class: Class of the peer.
        configure: Makes its configuration for a feed-forward width.
        target: Parameters to reach.
    """
    # The count grows by the same amount with every unit of feed-forward width.
    smallest = count_parameters(model_class, configure(1))
    per_unit = count_parameters(model_class, configure(2)) - smallest
    return configure(1 + max(0, round((target - smallest) / per_unit)))


def t5_like(ours: KakehashiConfig, feed_forward: int) -> T5Config:
    """Returns a T5 v1.1 of our width and heads that keeps its own design: as many decoder as encoder layers, relative
    position bias, gated GELU, no grouped-query attention, one tied embedding.
    """
    num_layers = (ours.num_encoder_layers + ours.num_decoder_layers) // 2
    return T5Config(
        vocab_size=ours.vocab_size,
        d_model=ours.hidden_size,
        d_kv=ours.head_dim,
        num_heads=ours.num_attention_heads,
        d_ff=feed_forward,
        num_layers=num_layers,
        num_decoder_layers=num_layers,
        feed_forward_proj="gated-gelu",
        # The field's recipe pretrains T5 v1.1 without dropout, and ours has none either.
        dropout_rate=0.0,
        pad_token_id=ours.pad_token_id,
        eos_token_id=ours.eos_token_id,
        decoder_start_token_id=ours.decoder_start_token_id,
    )


def _bart_family(ours: KakehashiConfig, feed_forward: int) -> dict[str, Any]:
    """Returns the fields that BART and Marian share, for as many decoder as encoder layers."""
    num_layers = (ours.num_encoder_layers + ours.num_decoder_layers) // 2
    return {
        "vocab_size": ours.vocab_size,
        "d_model": ours.hidden_size,
        "encoder_layers": num_layers,
        "decoder_layers": num_layers,
        "encoder_attention_heads": ours.num_attention_heads,
        "decoder_attention_heads": ours.num_attention_heads,
        "encoder_ffn_dim": feed_forward,
        "decoder_ffn_dim": feed_forward,
        "max_position_embeddings": ours.max_position_embeddings,
        "dropout": 0.0,
        "pad_token_id": ours.pad_token_id,
        "eos_token_id": ours.eos_token_id,
        "decoder_start_token_id": ours.decoder_start_token_id,
        "forced_eos_token_id": None,
    }


def bart_like(ours: KakehashiConfig, feed_forward: int) -> BartConfig:
    """Returns a BART of our width and heads that keeps its own design: as many decoder as encoder layers, learned
    positions, post-norm, GELU, one tied embedding.
    """
    return BartConfig(**_bart_family(ours, feed_forward), bos_token_id=ours.bos_token_id)


def marian_like(ours: KakehashiConfig, feed_forward: int) -> MarianConfig:
    """Returns a Marian of our width and heads that keeps its own design: as many decoder as encoder layers, sinusoidal
    positions, post-norm, swish, one tied embedding.
    """
    return MarianConfig(
        **_bart_family(ours, feed_forward),
        decoder_vocab_size=ours.vocab_size,
        activation_function="swish",
        share_encoder_decoder_embeddings=True,
    )


def t5gemma_like(ours: KakehashiConfig, feed_forward: int) -> T5GemmaConfig:
    """Returns a T5Gemma of our width and heads that keeps its own design: as many decoder as encoder layers, rotary
    positions, sandwich norms, capped scores, and embeddings of their own for source and target, for which a small
    model has more parameters than ours.
    """
    stack = T5GemmaModuleConfig(
        vocab_size=ours.vocab_size,
        hidden_size=ours.hidden_size,
        intermediate_size=feed_forward,
        num_hidden_layers=(ours.num_encoder_layers + ours.num_decoder_layers) // 2,
        num_attention_heads=ours.num_attention_heads,
        num_key_value_heads=ours.num_key_value_heads,
        head_dim=ours.head_dim,
        query_pre_attn_scalar=ours.head_dim,
        max_position_embeddings=ours.max_position_embeddings,
        pad_token_id=ours.pad_token_id,
        bos_token_id=ours.bos_token_id,
        eos_token_id=ours.eos_token_id,
    )
    return T5GemmaConfig(encoder=stack.to_dict(), decoder=stack.to_dict(), vocab_size=ours.vocab_size)


PEERS: dict[str, tuple[type[PreTrainedModel], Callable[[KakehashiConfig, int], PreTrainedConfig]]] = {
    "T5 v1.1": (T5ForConditionalGeneration, t5_like),
    "BART": (BartForConditionalGeneration, bart_like),
    "Marian": (MarianMTModel, marian_like),
    "T5Gemma": (T5GemmaForConditionalGeneration, t5gemma_like),
}
"""Name → class and configuration of a peer for a feed-forward width."""
