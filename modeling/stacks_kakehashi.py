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
"""Layers and the two stacks that are made of them.

Feed-forward block, encoder and decoder layer, what every kakehashi class shares, encoder, decoder; in this order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_kakehashi import (
    KakehashiAttention,
    KakehashiCrossAttention,
    KakehashiRMSNorm,
    KakehashiRotaryEmbedding,
    residual_linear,
)
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


class KakehashiEncoderLayer(GradientCheckpointingLayer):
    """Self-attention over the whole source, then the feed-forward block, each added to what came in."""

    def __init__(self, config: KakehashiConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = KakehashiAttention(config, layer_idx, is_causal=False)
        self.mlp_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = KakehashiMLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """One layer, `(batch, source_length, hidden_size)` to the same shape."""
        attended, _ = self.self_attn(self.self_attn_norm(hidden_states), position_embeddings, attention_mask, **kwargs)
        hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))


def self_attention_cache(past_key_values: Cache | None) -> Cache | None:
    """The part of a decoder's cache that self-attention reads and extends."""
    return getattr(past_key_values, "self_attention_cache", past_key_values)


class KakehashiDecoderLayer(GradientCheckpointingLayer):
    """Self-attention that sees no later position, cross-attention to the source if there is one, feed-forward."""

    def __init__(self, config: KakehashiConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = KakehashiAttention(config, layer_idx, is_causal=True)
        self.cross_attn: KakehashiCrossAttention | None = None
        if config.is_encoder_decoder:
            self.cross_attn_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
            self.cross_attn = KakehashiCrossAttention(config, layer_idx)
        self.mlp_norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = KakehashiMLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
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
        hidden_states = hidden_states + self.dropout(attended)
        if self.cross_attn is not None:
            attended, _ = self.cross_attn(
                self.cross_attn_norm(hidden_states),
                encoder_hidden_states,
                encoder_attention_mask,
                past_key_values,
                **kwargs,
            )
            hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))


class KakehashiPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation of every kakehashi class.

    Linear weights start with variance 1 / fan_in, so that each sub-layer turns normalised features into features of
    unit size; the projections that write into the residual stream start smaller by `sqrt(2 * layers of the stack)`,
    so that depth does not blow it up (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019,
    section 2.3). The embedding starts at `initializer_range`, small enough for a first loss near ln(vocab_size).
    """

    config: KakehashiConfig
    config_class = KakehashiConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["KakehashiEncoderLayer", "KakehashiDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: KakehashiConfig, *args: Any, **kwargs: Any) -> None:
        # A keyword override in `from_pretrained` reaches the configuration after its own check.
        config.validate_architecture()
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=module.in_features**-0.5)


class KakehashiStack(KakehashiPreTrainedModel):
    """What encoder and decoder share: the embedding on the way in, rotary positions, layers, the final norm."""

    layer_class: type[nn.Module]

    def __init__(self, config: KakehashiConfig, num_layers: int, embed_tokens: nn.Module | None = None) -> None:
        super().__init__(config)
        self.embed_tokens: nn.Module = embed_tokens or nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_scale = math.sqrt(config.hidden_size) if config.scale_embedding else 1.0
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(self.layer_class(config, index) for index in range(num_layers))
        self.norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = KakehashiRotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # By a mark on the layer itself: of a class outside Transformers, modules that own no parameter, such as the
        # attention around the projection, never come here.
        if isinstance(module, nn.Linear) and getattr(module, "writes_to_residual", False):
            init.normal_(module.weight, mean=0.0, std=(module.in_features * 2 * len(self.layers)) ** -0.5)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding, shared with the other stack."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the embedding of this stack."""
        self.embed_tokens = value

    def embed(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """Looks up and scales embeddings, `(batch, length, hidden_size)`.

        Raises:
            ValueError: Unless exactly one of the two is given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            given = "both" if input_ids is not None else "neither"
            raise ValueError(f"Give exactly one of `input_ids` and `inputs_embeds`, got {given}.")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        return inputs_embeds * self.embed_scale


# The key is set afterwards because Transformers 5.17 takes no such argument, and needs none.
_ENCODER_LAYER_OUTPUTS = OutputRecorder(KakehashiEncoderLayer)
_ENCODER_LAYER_OUTPUTS.num_hidden_layers_key = "num_encoder_layers"


class KakehashiEncoder(KakehashiStack):
    """Turns a source into context vectors, each position seeing every other."""

    layer_class = KakehashiEncoderLayer
    _can_record_outputs = {
        "hidden_states": _ENCODER_LAYER_OUTPUTS,
        "attentions": OutputRecorder(KakehashiAttention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: KakehashiConfig, embed_tokens: nn.Module | None = None) -> None:
        super().__init__(config, config.num_encoder_layers, embed_tokens)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encodes a batch.

        Args:
            input_ids: `(batch, source_length)`.
            attention_mask: `(batch, source_length)`, 1 for a token and 0 for padding. `None` means no padding.
            position_ids: `(batch, source_length)`. `None` counts from 0.
            inputs_embeds: `(batch, source_length, hidden_size)` in place of `input_ids`, before scaling.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            `last_hidden_state` `(batch, source_length, hidden_size)` and what was asked for beside it.
        """
        hidden_states = self.embed(input_ids, inputs_embeds)
        if position_ids is None:
            position_ids = torch.arange(hidden_states.shape[1], device=hidden_states.device)[None]
        mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=attention_mask
        )
        hidden_states = self.dropout(hidden_states)
        position_embeddings = self.rotary_emb(hidden_states, position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, position_embeddings, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.norm(hidden_states))


class KakehashiDecoder(KakehashiStack):
    """Predicts a target from left to right, seeing its own past and, in an encoder-decoder, the whole source."""

    layer_class = KakehashiDecoderLayer
    _can_record_outputs = {
        "hidden_states": KakehashiDecoderLayer,
        "attentions": OutputRecorder(KakehashiAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(KakehashiCrossAttention, index=1, layer_name="cross_attn"),
    }

    def __init__(self, config: KakehashiConfig, embed_tokens: nn.Module | None = None) -> None:
        super().__init__(config, config.num_decoder_layers, embed_tokens)

    def _new_cache(self) -> Cache:
        if self.config.is_encoder_decoder:
            return EncoderDecoderCache(DynamicCache(config=self.config), DynamicCache(config=self.config))
        return DynamicCache(config=self.config)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decodes a batch.

        Args:
            input_ids: `(batch, target_length)`.
            attention_mask: `(batch, cached_length + target_length)`, 1 for a token and 0 for padding.
            position_ids: `(batch, target_length)`. `None` counts on from the cache.
            encoder_hidden_states: `(batch, source_length, hidden_size)`; only in an encoder-decoder.
            encoder_attention_mask: `(batch, source_length)`, 1 for a token and 0 for padding.
            past_key_values: Cache to read and extend.
            inputs_embeds: `(batch, target_length, hidden_size)` in place of `input_ids`, before scaling.
            use_cache: Whether to return a cache. `None` takes `config.use_cache`.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            `last_hidden_state` `(batch, target_length, hidden_size)`, `past_key_values` and what was asked for.

        Raises:
            ValueError: If an encoder-decoder's decoder gets no `encoder_hidden_states`.
        """
        if self.config.is_encoder_decoder and encoder_hidden_states is None:
            raise ValueError("`encoder_hidden_states` must be given to the decoder of an encoder-decoder, got None.")
        hidden_states = self.embed(input_ids, inputs_embeds)
        # A training step never reads a cache back.
        if use_cache and past_key_values is None and not self.training:
            past_key_values = self._new_cache()
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(hidden_states.shape[1], device=hidden_states.device)[None] + seen
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=attention_mask,
            past_key_values=self_attention_cache(past_key_values),
            position_ids=position_ids,
        )
        cross_mask = None
        if encoder_hidden_states is not None:
            cross_mask = create_bidirectional_mask(
                config=self.config,
                inputs_embeds=hidden_states,
                attention_mask=encoder_attention_mask,
                encoder_hidden_states=encoder_hidden_states,
            )
        hidden_states = self.dropout(hidden_states)
        position_embeddings = self.rotary_emb(hidden_states, position_ids)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                encoder_hidden_states,
                position_embeddings,
                causal_mask,
                cross_mask,
                past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values
        )
