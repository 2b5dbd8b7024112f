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
"""Where a token stands: five ways to tell the model, one function to find the position of each token.

rope            queries and keys are turned by an angle that grows with the position (the default)
relative_bias   a learned number per head and distance is added to the attention scores (T5)
learned         a learned vector per position is added to the token's embedding
sinusoidal      a fixed vector of sines and cosines per position is added to the token's embedding
none            nothing; only the decoder's causal order tells positions apart
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update

from .configuration_kakehashi import KakehashiConfig


class KakehashiRotaryEmbedding(nn.Module):
    """Cosines and sines that turn query and key pairs by an angle proportional to their position.

    Source: Su et al., "RoFormer", 2021, section 3.2.2, in the layout where feature `i` pairs with `i + head_dim / 2`.
    """

    inv_freq: torch.Tensor

    def __init__(self, config: KakehashiConfig) -> None:
        super().__init__()
        self.config = config
        assert config.rope_parameters is not None
        self.rope_type = config.rope_parameters["rope_type"]
        self.max_seq_len_cached = self.original_max_seq_len = config.max_position_embeddings
        compute = ROPE_INIT_FUNCTIONS.get(self.rope_type, self.compute_default_rope_parameters)
        inv_freq, self.attention_scaling = compute(config)
        # Both names are what Transformers looks for when it rebuilds the table after loading on the meta device.
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(
        config: KakehashiConfig, device: torch.device | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, float]:
        """The angle per position of each feature pair, `(head_dim / 2,)`, and the factor 1.0 on cosines and sines."""
        assert config.rope_parameters is not None
        assert config.head_dim is not None
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
        return config.rope_parameters["rope_theta"] ** -exponents, 1.0

    def _apply(self, fn: Callable, recurse: bool = True) -> KakehashiRotaryEmbedding:
        # A cast of the whole model must not reach the tables: in bfloat16 the angles of far positions blur.
        tables = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, table in tables.items():
            moved = self.get_buffer(name)
            if moved.dtype != table.dtype:
                self._buffers[name] = table.to(moved.device)
        return self

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines for the positions, of the angle's negative in the first half, as `rotate` takes them.

        Args:
            x: Any tensor of the dtype and device wanted.
            position_ids: `(batch or 1, length)`.

        Returns:
            Two tensors `(batch or 1, length, 1, head_dim)`, the same for all heads.
        """
        angles = position_ids[:, :, None, None].float() * self.inv_freq.float()
        angles = torch.cat((-angles, angles), dim=-1)
        return (angles.cos() * self.attention_scaling).to(x.dtype), (angles.sin() * self.attention_scaling).to(x.dtype)


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turns the pairs of `states`, `(batch, length, heads, head_dim)`, by the angles behind `cos` and `sin`.

    Args:
        states: Queries or keys.
        cos: `(batch or 1, length, 1, head_dim)`, the cosines of `KakehashiRotaryEmbedding`.
        sin: As `cos`; negative for the first of each pair, from which the second is taken off.
    """
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((second, first), dim=-1) * sin


class KakehashiRelativeBias(nn.Embedding):
    """One learned number per head and bucket of distances, added to attention scores; shared by the stack's layers.

    Near distances have a bucket each, far ones share buckets that widen with the logarithm of the distance. Source:
    Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020,
    section 2.1. Distances are counted in places of the row, so padding and packing leave them alone.
    """

    def __init__(self, config: KakehashiConfig, *, is_causal: bool) -> None:
        super().__init__(config.relative_attention_num_buckets, config.num_attention_heads)
        self.max_distance = config.relative_attention_max_distance
        self.is_causal = is_causal

    def bucket(self, distance: torch.Tensor) -> torch.Tensor:
        """The bucket of each distance, key place minus query place, in the shape given.

        Drawn for 8 buckets and a largest distance of 16, looking back from the place on the right:

            distance  -20 ... -12 ... -8 -7 -6 -5 -4 -3 -2 -1  0
            bucket      7   7   7   6  6  5  5  4  4  3  2  1  0

        A bidirectional stack halves the buckets: one half for what stands before, the other for what follows.
        """
        buckets = self.num_embeddings
        offset = torch.zeros_like(distance)
        if self.is_causal:
            distance = (-distance).clamp(min=0)
        else:
            buckets //= 2
            offset = (distance > 0).long() * buckets
            distance = distance.abs()
        exact = buckets // 2
        far = (distance.clamp(min=1).float() / exact).log() / math.log(self.max_distance / exact)
        far_bucket = (exact + (far * (buckets - exact)).long()).clamp(max=buckets - 1)
        return offset + torch.where(distance < exact, distance, far_bucket)

    def forward(self, query_places: torch.Tensor, key_places: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """The bias for attention scores.

        Args:
            query_places: `(query_length,)`, the place of each query in its row, cached places included.
            key_places: `(key_length,)`.

        Returns:
            `(1, num_attention_heads, query_length, key_length)`.
        """
        return super().forward(self.bucket(key_places[None, :] - query_places[:, None])).permute(2, 0, 1)[None]


class KakehashiLearnedPositions(nn.Embedding):
    """One learned vector per position, as many as `config.max_position_embeddings`, added to the token's embedding."""

    def __init__(self, config: KakehashiConfig) -> None:
        super().__init__(config.max_position_embeddings, config.hidden_size)
        assert config.initializer_range is not None
        # Of the size that a token's embedding has when it enters the residual stream; read by `_init_weights`.
        self.initial_std = config.initializer_range * (config.hidden_size**0.5 if config.scale_embedding else 1.0)

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """The vectors of the positions, `(batch or 1, length)` to `(batch or 1, length, hidden_size)`.

        Raises:
            ValueError: If a position lies past the table.
        """
        return look_up(super().forward, position_ids, self.num_embeddings, "position_ids", "max_position_embeddings")


class KakehashiSinusoidalPositions(nn.Module):
    """A fixed vector per position: sines of ever slower waves in the first half, their cosines in the second.

    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.5; there sines and cosines alternate, which
    only reorders the features.
    """

    def __init__(self, config: KakehashiConfig) -> None:
        super().__init__()
        self.hidden_size = config.hidden_size

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """The vectors of the positions, `(batch or 1, length)` to `(batch or 1, length, hidden_size)`, in float32."""
        # Computed from nothing each time: a table in a buffer would have to be rebuilt after loading.
        features = torch.arange(0, self.hidden_size, 2, device=position_ids.device) / self.hidden_size
        angles = position_ids[..., None].float() * 10_000.0**-features
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


def look_up(
    table: Callable[[torch.Tensor], torch.Tensor], ids: torch.Tensor, size: int, name: str, bound: str
) -> torch.Tensor:
    """Rows of an embedding, with a readable error for an id that it does not have.

    On an accelerator the kernel's own assertion stops the program: to read ids back at each step would slow training.

    Args:
        table: The embedding's forward.
        ids: `(batch, length)`.
        size: Number of rows.
        name: What the ids are called.
        bound: What the number of rows is called.

    Raises:
        ValueError: Naming the first id outside the table and where it stands.
    """
    try:
        return table(ids)
    except IndexError:
        row, column = ((ids < 0) | (ids >= size)).nonzero()[0].tolist()
        raise ValueError(
            f"`{name}` must be between 0 and `{bound}` - 1 = {size - 1}, "
            f"got {ids[row, column].item()} at row {row}, position {column}."
        ) from None


def positions_of_tokens(attention_mask: torch.Tensor, length: int) -> torch.Tensor:
    """The position of each of the last `length` tokens among the tokens of its row that are not padding.

        attention_mask   0 0 1 1 1        1 1 1 0 0
        returns          0 0 0 1 2        0 1 2 2 2

    Args:
        attention_mask: `(batch, at least length)`, 1 for a token and 0 for padding.
        length: Number of last columns wanted.
    """
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -length:]
