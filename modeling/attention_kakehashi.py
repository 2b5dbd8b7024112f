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
"""Attention: how one token looks at others.

Norm, attention written out, self-attention, cross-attention; in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_kakehashi import KakehashiConfig
from .positions_kakehashi import rotate


def product_dtype(states: torch.Tensor) -> torch.dtype:
    """The dtype that matrix products of `states` are computed in: autocast's where that is on, else their own."""
    device_type = states.device.type
    return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else states.dtype


class KakehashiRMSNorm(nn.RMSNorm):
    """Divides by the root mean square of the last dimension and scales each feature (Zhang and Sennrich, 2019)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises `x`, `(..., width)`, in its own dtype; what is returned has autocast's where that is on."""
        weight: torch.Tensor = self.weight
        # Autocast hands over bfloat16 features beside a float32 weight, for which torch has no fused kernel. Compared
        # first, because a cast that changes nothing still costs time at each of the many norms of a decoding step.
        if weight.dtype != x.dtype:
            weight = weight.to(x.dtype)
        normed = F.rms_norm(x, self.normalized_shape, weight, self.eps)
        # The linear layers that read this would each cast it for themselves.
        dtype = product_dtype(x)
        return normed if normed.dtype == dtype else normed.to(dtype)


def residual_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer that writes into the residual stream, marked for `_init_weights`, which starts it smaller."""
    linear = nn.Linear(in_features, out_features, bias=False)
    # A mark and not a subclass: dynamic quantization looks for exactly `nn.Linear`.
    linear.writes_to_residual = True  # type: ignore[assignment]
    return linear


def stack_groups(states: torch.Tensor, key_heads: int) -> torch.Tensor:
    """Puts the query heads that share a key head one below the other, so that one product serves them all.

    `(batch, heads, length, …)` to `(batch, key_heads, heads / key_heads * length, …)`.
    """
    return states.unflatten(1, (key_heads, -1)).flatten(2, 3)


def split_groups(states: torch.Tensor, length: int) -> torch.Tensor:
    """The inverse of `stack_groups`, for heads of `length` rows each."""
    return states.unflatten(2, (-1, length)).flatten(1, 2)


def eager_attention_forward(
    module: KakehashiAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out: scores, softmax, weighted sum. The reference, and the one that returns its weights.

    Args:
        module: The attention that calls.
        query: `(batch, num_attention_heads, query_length, head_dim)`.
        key: `(batch, num_key_value_heads, key_length, head_dim)`.
        value: As `key`.
        attention_mask: Added to the scores, `(batch, 1, query_length, key_length)`: 0 to see, very negative to hide.
        scaling: Factor on the scores, `head_dim ** -0.5`.
        dropout: Probability of dropping a weight.
        **kwargs: What other implementations need.

    Returns:
        Context vectors `(batch, query_length, num_attention_heads, head_dim)` and attention weights
        `(batch, num_attention_heads, query_length, key_length)`, whose rows sum to 1.
    """
    length, key_heads = query.shape[2], key.shape[1]
    scores = split_groups(stack_groups(query * scaling, key_heads) @ key.transpose(2, 3), length)
    if attention_mask is not None:
        scores = scores + attention_mask
    # Computed in float32 within; what comes out has the dtype of the scores.
    weights = scores.softmax(dim=-1).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    context = split_groups(stack_groups(weights, key_heads) @ value, length)
    return context.transpose(1, 2).contiguous(), weights


class KakehashiAttention(nn.Module):
    """Grouped-query attention with normalised queries and keys, for self- and cross-attention.

    Self-attention norms queries and keys per head and turns them where positions are rotary. Cross-attention has no
    positions, norms keys per head and queries over their full width: the form that CTranslate2 computes exactly as
    well. Source: Ainslie et al., "GQA", 2023; Dehghani et al., "Scaling Vision Transformers to 22 Billion
    Parameters", 2023, for the norms.
    """

    def __init__(self, config: KakehashiConfig, layer_idx: int, *, is_causal: bool, is_cross: bool = False) -> None:
        super().__init__()
        # The configuration has filled both in.
        assert config.head_dim is not None
        assert config.num_key_value_heads is not None
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.is_cross = is_cross
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        query_width = config.num_attention_heads * config.head_dim
        key_width = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.o_proj = residual_linear(query_width, config.hidden_size)
        self.q_norm = KakehashiRMSNorm(query_width if is_cross else config.head_dim, eps=config.rms_norm_eps)
        self.k_norm = KakehashiRMSNorm(config.head_dim, eps=config.rms_norm_eps)

    def project_queries(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Normalised queries `(batch, length, num_attention_heads, head_dim)` of `(batch, length, hidden_size)`."""
        queries = self.q_proj(hidden_states)
        if self.is_cross:
            queries = self.q_norm(queries)
        queries = queries.unflatten(-1, (-1, self.head_dim))
        return queries if self.is_cross else self.q_norm(queries)

    def project_keys_values(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised keys, and values, `(batch, length, num_key_value_heads, head_dim)`."""
        keys = self.k_norm(self.k_proj(hidden_states).unflatten(-1, (-1, self.head_dim)))
        return keys, self.v_proj(hidden_states).unflatten(-1, (-1, self.head_dim))

    def attend(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Runs the chosen attention implementation and projects its context vectors back to the residual width.

        Args:
            queries: `(batch, length, num_attention_heads, head_dim)`.
            keys: `(batch, num_key_value_heads, key_length, head_dim)`, as caches keep them.
            values: As `keys`.
            attention_mask: As for `forward`.
            **kwargs: As for `forward`.
        """
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attention(
            self,
            queries.transpose(1, 2),
            keys,
            values,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.o_proj(context.flatten(2)), weights

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Self-attention.

        Args:
            hidden_states: `(batch, length, hidden_size)`.
            position_embeddings: Cosines and sines for `rotate`. `None` turns nothing.
            attention_mask: In the form of the chosen attention implementation. `None` hides nothing but, in the
                decoder, what comes later.
            past_key_values: Cache that earlier keys and values are read from and these are added to.
            **kwargs: Passed to the attention implementation.

        Returns:
            The sub-layer's output, shaped as `hidden_states`, and the attention weights where they are computed.
        """
        queries = self.project_queries(hidden_states)
        keys, values = self.project_keys_values(hidden_states)
        if position_embeddings is not None:
            queries, keys = rotate(queries, *position_embeddings), rotate(keys, *position_embeddings)
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self.layer_idx)
        return self.attend(queries, keys, values, attention_mask, **kwargs)


class KakehashiCrossAttention(KakehashiAttention):
    """Attention of the decoder's positions to the encoder's states."""

    def __init__(self, config: KakehashiConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx, is_causal=False, is_cross=True)

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Cross-attention; its keys and values are computed once per source and then read from the cache.

        Args:
            hidden_states: `(batch, target_length, hidden_size)`.
            encoder_hidden_states: `(batch, source_length, hidden_size)`.
            attention_mask: In the form of the chosen attention implementation.
            past_key_values: Cache of both attentions.
            **kwargs: Passed to the attention implementation.

        Returns:
            As `KakehashiAttention.forward`.
        """
        queries = self.project_queries(hidden_states)
        if past_key_values is not None and past_key_values.is_updated.get(self.layer_idx):
            layer: Any = past_key_values.cross_attention_cache.layers[self.layer_idx]
            # An offloaded cache keeps them in main memory; anywhere else this changes nothing.
            keys, values = layer.keys.to(queries.device), layer.values.to(queries.device)
        else:
            keys, values = (states.transpose(1, 2) for states in self.project_keys_values(encoder_hidden_states))
            if past_key_values is not None:
                keys, values = past_key_values.cross_attention_cache.update(keys, values, self.layer_idx)
                past_key_values.is_updated[self.layer_idx] = True
        return self.attend(queries, keys, values, attention_mask, **kwargs)
