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
"""The two stacks of layers.

What both stacks share, encoder, decoder; in this order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import is_flash_attention_requested, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_kakehashi import KakehashiAttention, KakehashiCrossAttention, KakehashiRMSNorm, product_dtype
from .configuration_kakehashi import KakehashiConfig
from .layers_kakehashi import KakehashiDecoderLayer, KakehashiEncoderLayer, self_attention_cache
from .packing_kakehashi import (
    TokenLayout,
    add_bias,
    check_whole_segments,
    cross_attention_mask,
    positions_in_segments,
    self_attention_mask,
)
from .positions_kakehashi import (
    KakehashiLearnedPositions,
    KakehashiRelativeBias,
    KakehashiRotaryEmbedding,
    KakehashiSinusoidalPositions,
    look_up,
    positions_of_tokens,
)
from .pretrained_kakehashi import KakehashiPreTrainedModel
from .varlen_kakehashi import masks_touch_fewer_tiles, register_varlen

register_varlen()

WIDTH_OF_PLAIN_WRITES = 169
"""Hidden size up to which a token's own row of the embedding cannot outweigh what the layers write."""


class KakehashiStack(KakehashiPreTrainedModel):
    """What encoder and decoder share: embedding and positions on the way in, layers, the final norm.

    The projections that write into the residual stream start smaller than others by `sqrt(2 * layers of the stack)`,
    so that depth does not blow it up (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019,
    section 2.3).

    A token enters the stream by the row of the embedding that its own logit is measured by, and would start out
    predicting itself, the more the wider the model: the two rows' product grows with `sqrt(hidden_size)`. So past a
    width of `WIDTH_OF_PLAIN_WRITES` layers write larger by as much. A smaller embedding would do as well for the first
    loss, but learns more slowly.
    """

    layer_class: type[nn.Module]
    is_causal: bool

    def __init__(self, config: KakehashiConfig, num_layers: int, embed_tokens: nn.Module | None = None) -> None:
        super().__init__(config)
        self.embed_tokens: nn.Module = embed_tokens or nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_scale = math.sqrt(config.hidden_size) if config.scale_embedding else 1.0
        positions = config.position_embedding_type
        self.embed_positions: nn.Module | None = None
        if positions == "learned":
            self.embed_positions = KakehashiLearnedPositions(config)
        elif positions == "sinusoidal":
            self.embed_positions = KakehashiSinusoidalPositions(config)
        self.rotary_emb = KakehashiRotaryEmbedding(config) if positions == "rope" else None
        self.relative_bias = (
            KakehashiRelativeBias(config, is_causal=self.is_causal) if positions == "relative_bias" else None
        )
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(self.layer_class(config, index) for index in range(num_layers))
        self.norm = KakehashiRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # By a mark on the layer itself: of a class outside Transformers, modules that own no parameter, such as the
        # attention around the projection, never come here.
        if isinstance(module, nn.Linear) and getattr(module, "writes_to_residual", False):
            widening = max(1.0, (self.config.hidden_size / WIDTH_OF_PLAIN_WRITES) ** 0.5)
            init.normal_(module.weight, mean=0.0, std=widening * (module.in_features * 2 * len(self.layers)) ** -0.5)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding, shared with the other stack."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the embedding of this stack."""
        self.embed_tokens = value

    def embed(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        position_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Looks up and scales embeddings and adds absolute positions, `(batch, length, hidden_size)`.

        Raises:
            ValueError: If an id lies outside the vocabulary, or a position outside the learned ones.
        """
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = look_up(self.embed_tokens, input_ids, self.config.vocab_size, "input_ids", "vocab_size")
        hidden_states = inputs_embeds * self.embed_scale
        if self.embed_positions is not None:
            hidden_states = hidden_states + self.embed_positions(position_ids).to(hidden_states)
        return self.dropout(hidden_states)

    def number_positions(
        self, tokens: torch.Tensor, attention_mask: torch.Tensor | None, segment_ids: torch.Tensor | None, seen: Any
    ) -> torch.Tensor:
        """The position of each token, `(batch or 1, length)`, when the caller gives none.

        Args:
            tokens: Ids or embeddings, `(batch, length, …)`.
            attention_mask: `(batch, seen + length)`.
            segment_ids: `(batch, length)`, where rows are packed.
            seen: Number of tokens in the cache.
        """
        if segment_ids is not None:
            return positions_in_segments(segment_ids)
        length = tokens.shape[1]
        # Rotations and distances are relative: padding before a row shifts them all and changes nothing.
        if self.embed_positions is not None and attention_mask is not None and attention_mask.ndim == 2:
            return positions_of_tokens(attention_mask, length)
        return torch.arange(length, device=tokens.device)[None] + seen

    def lay_out(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        segment_ids: torch.Tensor | None,
        **kwargs: Any,
    ) -> TokenLayout | None:
        """The layout of the tokens without padding, where the attention implementation works on that.

        States and weights that are asked for keep the shape of the batch, so then masks are used; and so they are on
        CUDA where rows are packed with many short segments, see `masks_touch_fewer_tiles`, and in float32 outside of
        training, for `generate` runs without the autocast that a model is trained in.

        Raises:
            ValueError: If the attention implementation can do neither.
        """
        implementation = self.config._attn_implementation
        is_flash = is_flash_attention_requested(self.config)
        if self.relative_bias is not None and (is_flash or implementation not in ("eager", "sdpa")):
            raise ValueError(
                "`attn_implementation` must be 'eager' or 'sdpa' with relative biases, which other implementations "
                f"cannot add to their scores, got {implementation!r}."
            )
        asked = [
            name
            for name in ("output_hidden_states", "output_attentions")
            if kwargs.get(name, getattr(self.config, name, False))
        ]
        if not is_flash and implementation != "varlen":
            return None
        if is_flash and segment_ids is not None and asked:
            raise ValueError(
                f"`{asked[0]}` and segment ids go together with the attention implementations 'eager', 'sdpa', "
                f"'flex_attention' and 'varlen', got {implementation!r}."
            )
        if asked or (attention_mask is not None and attention_mask.ndim != 2):
            return None
        computes_in_float32 = product_dtype(hidden_states) == torch.float32
        if hidden_states.is_cuda and not is_flash and not self.training and computes_in_float32:
            return None
        is_packed_on_cuda = segment_ids is not None and segment_ids.is_cuda
        if is_packed_on_cuda and not is_flash and masks_touch_fewer_tiles(segment_ids):
            return None
        return TokenLayout.of(hidden_states, attention_mask, segment_ids)

    def norm_rows(self, hidden_states: torch.Tensor, layout: TokenLayout | None) -> torch.Tensor:
        """The final norm, `(batch, length, hidden_size)`, of tokens in rows or laid out without padding.

        Rows first: FSDP2 warns of an output that is a view, as rows of laid out tokens are. The norm of zeros is zero.
        """
        return self.norm(hidden_states if layout is None else layout.pad(hidden_states))

    def bias_mask(self, mask: Any, hidden_states: torch.Tensor, seen: Any = 0) -> Any:
        """The mask with relative biases added to it, where the model has them."""
        if self.relative_bias is None:
            return mask
        length, device = hidden_states.shape[1], hidden_states.device
        query_places = torch.arange(length, device=device) + seen
        key_places = torch.arange(seen + length if mask is None else mask.shape[-1], device=device)
        return add_bias(mask, self.relative_bias(query_places, key_places).to(product_dtype(hidden_states)))

    def embed_rotations(
        self, hidden_states: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Cosines and sines of the positions, `(batch or 1, length, 1, head_dim)`, where the model turns by them.

        In the dtype of queries and keys: turned in float32, these would take twice the memory traffic under autocast.
        """
        if self.rotary_emb is None:
            return None
        cos, sin = self.rotary_emb(hidden_states, position_ids)
        dtype = product_dtype(hidden_states)
        return cos.to(dtype), sin.to(dtype)


def check_inputs(
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    segment_ids: torch.Tensor | None,
    seen: Any = 0,
) -> torch.Tensor:
    """Checks that what a stack is given has one shape.

    Args:
        input_ids: `(batch, length)`.
        inputs_embeds: `(batch, length, hidden_size)`.
        attention_mask: `(batch, seen + length)`, or a finished mask of four dimensions.
        segment_ids: `(batch, length)`.
        seen: Number of tokens in the cache. A tensor, as a static cache counts, is not read back.

    Returns:
        The ids or the embeddings, whichever is given.

    Raises:
        ValueError: Unless exactly one of ids and embeddings is given and the others match its shape.
    """
    if (input_ids is None) == (inputs_embeds is None):
        given = "both" if input_ids is not None else "neither"
        raise ValueError(f"Give exactly one of `input_ids` and `inputs_embeds`, got {given}.")
    tokens = input_ids if input_ids is not None else inputs_embeds
    assert tokens is not None
    batch, length = tokens.shape[:2]
    if segment_ids is not None and tuple(segment_ids.shape) != (batch, length):
        raise ValueError(
            f"Segment ids must be of the shape of their tokens, {(batch, length)}, got {tuple(segment_ids.shape)}."
        )
    if attention_mask is not None and attention_mask.ndim == 2 and isinstance(seen, int):
        check_mask("attention_mask", attention_mask, batch, seen + length)
    return tokens


def check_mask(name: str, attention_mask: torch.Tensor, batch: int, length: int) -> None:
    """Checks the shape of a mask.

    Raises:
        ValueError: Naming the mask, the shape that it must have and the one it has.
    """
    if tuple(attention_mask.shape) != (batch, length):
        raise ValueError(
            f"`{name}` must be of shape (batch, length) = {(batch, length)}, got {tuple(attention_mask.shape)}."
        )


def join_segments(attention_mask: torch.Tensor | None, segment_ids: torch.Tensor | None) -> torch.Tensor | None:
    """Segment ids that leave out what the mask hides as well.

    Raises:
        ValueError: If the mask hides a place inside a segment.
    """
    if segment_ids is None or attention_mask is None:
        return segment_ids
    segment_ids = segment_ids.masked_fill(attention_mask == 0, 0)
    if not torch.compiler.is_compiling():
        check_whole_segments(segment_ids)
    return segment_ids


# The key is set afterwards because Transformers 5.17 takes no such argument, and needs none.
_ENCODER_LAYER_OUTPUTS = OutputRecorder(KakehashiEncoderLayer)
_ENCODER_LAYER_OUTPUTS.num_hidden_layers_key = "num_encoder_layers"


class KakehashiEncoder(KakehashiStack):
    """Turns a source into context vectors, each position seeing every other."""

    layer_class = KakehashiEncoderLayer
    is_causal = False
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
        segment_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encodes a batch.

        Args:
            input_ids: `(batch, source_length)`.
            attention_mask: `(batch, source_length)`, 1 for a token and 0 for padding. `None` means no padding.
            position_ids: `(batch, source_length)`. `None` counts from 0, in packed rows anew in each segment.
            inputs_embeds: `(batch, source_length, hidden_size)` in place of `input_ids`, before scaling.
            segment_ids: `(batch, source_length)` where rows are packed, see `packing_kakehashi.py`.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            `last_hidden_state` `(batch, source_length, hidden_size)` and what was asked for beside it.
        """
        tokens = check_inputs(input_ids, inputs_embeds, attention_mask, segment_ids)
        segment_ids = join_segments(attention_mask, segment_ids)
        if position_ids is None:
            position_ids = self.number_positions(tokens, attention_mask, segment_ids, 0)
        hidden_states = self.embed(input_ids, inputs_embeds, position_ids)
        layout = self.lay_out(hidden_states, attention_mask, segment_ids, **kwargs)
        mask = None
        if layout is None:
            mask = self_attention_mask(self.config, hidden_states, attention_mask, segment_ids, is_causal=False)
            mask = self.bias_mask(mask, hidden_states)
        else:
            hidden_states, position_ids = layout.unpad(hidden_states), layout.unpad_positions(position_ids)
            kwargs.update(layout.arguments())
        position_embeddings = self.embed_rotations(hidden_states, position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, position_embeddings, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.norm_rows(hidden_states, layout))


class KakehashiDecoder(KakehashiStack):
    """Predicts a target from left to right, seeing its own past and, in an encoder-decoder, the whole source."""

    layer_class = KakehashiDecoderLayer
    is_causal = True
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

    def _check_source(
        self,
        encoder_hidden_states: torch.Tensor | None,
        encoder_attention_mask: torch.Tensor | None,
        segment_ids: torch.Tensor | None,
        encoder_segment_ids: torch.Tensor | None,
        past_key_values: Cache | None,
    ) -> None:
        if self.config.is_encoder_decoder and encoder_hidden_states is None:
            raise ValueError("`encoder_hidden_states` must be given to the decoder of an encoder-decoder, got None.")
        if segment_ids is not None and past_key_values is not None:
            raise ValueError("Segment ids are for packed training rows and go with no `past_key_values`, got both.")
        if encoder_hidden_states is None:
            return
        if (segment_ids is None) != (encoder_segment_ids is None):
            given = "the source" if segment_ids is None else "the target"
            raise ValueError(f"Give segment ids for both source and target, got them only for {given}.")
        if encoder_attention_mask is not None and encoder_attention_mask.ndim == 2:
            check_mask("encoder_attention_mask", encoder_attention_mask, *encoder_hidden_states.shape[:2])

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
        segment_ids: torch.Tensor | None = None,
        encoder_segment_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decodes a batch.

        Args:
            input_ids: `(batch, target_length)`.
            attention_mask: `(batch, cached_length + target_length)`, 1 for a token and 0 for padding.
            position_ids: `(batch, target_length)`. `None` counts on from the cache, in packed rows anew in each
                segment.
            encoder_hidden_states: `(batch, source_length, hidden_size)`; only in an encoder-decoder.
            encoder_attention_mask: `(batch, source_length)`, 1 for a token and 0 for padding.
            past_key_values: Cache to read and extend.
            inputs_embeds: `(batch, target_length, hidden_size)` in place of `input_ids`, before scaling.
            use_cache: Whether to return a cache. `None` takes `config.use_cache`; never in training or packed rows.
            segment_ids: `(batch, target_length)` where rows are packed, see `packing_kakehashi.py`.
            encoder_segment_ids: `(batch, source_length)` where rows are packed.
            **kwargs: `output_attentions`, `output_hidden_states` and what the attention implementation takes.

        Returns:
            `last_hidden_state` `(batch, target_length, hidden_size)`, `past_key_values` and what was asked for.

        Raises:
            ValueError: If an encoder-decoder's decoder gets no `encoder_hidden_states`, or shapes do not match.
        """
        source = (encoder_hidden_states, encoder_attention_mask, segment_ids, encoder_segment_ids, past_key_values)
        self._check_source(*source)
        # A training step never reads a cache back.
        if use_cache and past_key_values is None and not self.training and segment_ids is None:
            past_key_values = self._new_cache()
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        tokens = check_inputs(input_ids, inputs_embeds, attention_mask, segment_ids, seen)
        segment_ids = join_segments(attention_mask, segment_ids)
        encoder_segment_ids = join_segments(encoder_attention_mask, encoder_segment_ids)
        given_position_ids = position_ids
        if position_ids is None:
            position_ids = self.number_positions(tokens, attention_mask, segment_ids, seen)
        hidden_states = self.embed(input_ids, inputs_embeds, position_ids)
        layout = None
        if past_key_values is None:
            layout = self.lay_out(hidden_states, attention_mask, segment_ids, **kwargs)
        mask = cross_mask = cross_lengths = None
        if layout is None:
            mask = self_attention_mask(
                self.config,
                hidden_states,
                attention_mask,
                segment_ids,
                is_causal=True,
                position_ids=given_position_ids,
                past_key_values=self_attention_cache(past_key_values),
                keep_causal_mask=self.relative_bias is not None,
            )
            mask = self.bias_mask(mask, hidden_states, seen)
            if encoder_hidden_states is not None:
                cross_mask = cross_attention_mask(
                    self.config,
                    hidden_states,
                    encoder_hidden_states,
                    encoder_attention_mask,
                    segment_ids,
                    encoder_segment_ids,
                )
        else:
            hidden_states, position_ids = layout.unpad(hidden_states), layout.unpad_positions(position_ids)
            kwargs.update(layout.arguments())
            if encoder_hidden_states is not None:
                source_layout = TokenLayout.of(encoder_hidden_states, encoder_attention_mask, encoder_segment_ids)
                encoder_hidden_states = source_layout.unpad(encoder_hidden_states)
                cross_lengths = layout.arguments(source_layout)
        position_embeddings = self.embed_rotations(hidden_states, position_ids)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                encoder_hidden_states,
                position_embeddings,
                mask,
                cross_mask,
                past_key_values,
                cross_lengths,
                **kwargs,
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.norm_rows(hidden_states, layout), past_key_values=past_key_values
        )
