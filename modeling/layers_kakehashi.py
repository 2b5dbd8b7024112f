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
"""Layers: what one step of a stack does with the residual stream.

Feed-forward block, what all layers share, encoder layer, decoder layer; in this order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_kakehashi import KakehashiAttention, KakehashiCrossAttention, KakehashiRMSNorm, residual_linear
from .configuration_kakehashi import KakehashiConfig


class KakehashiMLP(nn.Module):
    """SwiGLU feed-forward block (Shazeer, "GLU Variants Improve Transformer", 2020)."""

    def __init__(self, config: KakehashiConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = residual_linear(config.intermediate_size, config.hidden_size)
        self.act_fn = ACT2FN["silu"]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Transforms each position on its own, `(batch, length, hidden_size)` to the same shape."""
        return self.down_proj(self.act_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))


class KakehashiLayer(GradientCheckpointingLayer):
    """What the layers of both stacks do with each sub-layer's output."""

    def __init__(self, config: KakehashiConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)

    def add(self, hidden_states: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Adds a sub-layer's output to the residual stream, in training with dropout."""
        return hidden_states + (self.dropout(output) if self.training else output)


class KakehashiEncoderLayer(KakehashiLayer):
    """Self-attention over the whole source, then the feed-forward block, each added to what came in."""

    def __init__(self, config: KakehashiConfig, layer_idx: int) -> None:
        super().__init__(config)
        self.self_attn_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = KakehashiAttention(config, layer_idx, is_causal=False)
        self.mlp_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = KakehashiMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """One layer, `(batch, source_length, hidden_size)` to the same shape."""
        attended, _ = self.self_attn(self.self_attn_norm(hidden_states), position_embeddings, attention_mask, **kwargs)
        hidden_states = self.add(hidden_states, attended)
        return self.add(hidden_states, self.mlp(self.mlp_norm(hidden_states)))


def self_attention_cache(past_key_values: Cache | None) -> Cache | None:
    """The part of a decoder's cache that self-attention reads and extends."""
    return getattr(past_key_values, "self_attention_cache", past_key_values)


class KakehashiDecoderLayer(KakehashiLayer):
    """Self-attention that sees no later position, cross-attention to the source if there is one, feed-forward."""

    def __init__(self, config: KakehashiConfig, layer_idx: int) -> None:
        super().__init__(config)
        self.self_attn_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = KakehashiAttention(config, layer_idx, is_causal=True)
        self.cross_attn: KakehashiCrossAttention | None = None
        if config.is_encoder_decoder:
            self.cross_attn_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
            self.cross_attn = KakehashiCrossAttention(config, layer_idx)
        self.mlp_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = KakehashiMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        attention_mask: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cross_attention_lengths: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """One layer, `(batch, target_length, hidden_size)` to the same shape."""
        attended, _ = self.self_attn(
            self.self_attn_norm(hidden_states),
            position_embeddings,
            attention_mask,
            self_attention_cache(past_key_values),
            **kwargs,
        )
        hidden_states = self.add(hidden_states, attended)
        if self.cross_attn is not None:
            attended, _ = self.cross_attn(
                self.cross_attn_norm(hidden_states),
                encoder_hidden_states,
                encoder_attention_mask,
                past_key_values,
                **{**kwargs, **(cross_attention_lengths or {})},
            )
            hidden_states = self.add(hidden_states, attended)
        return self.add(hidden_states, self.mlp(self.mlp_norm(hidden_states)))
