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
"""Attention over rows of different length without padding and without masks: the implementation named `"varlen"`.

On CUDA, `torch.nn.attention.varlen.varlen_attn` runs the flash kernel that ships with torch itself, for self- and
cross-attention, whose queries and keys may differ in length. Elsewhere segments of about equal length are attended to
together, so that next to no score is computed in vain, with rows packed or padded.

Where keys come from a cache, lengths are those of the cache, and masks and `sdpa` take over; so they do on CUDA where
rows are packed with so many short segments that masks are the faster way.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .packing_kakehashi import rounded_size

SHORTEST_BLOCK = 16
"""Length up to which segments are not told apart: below it, more blocks cost more than padding."""

LENGTH_STEP = 8
"""Lengths of blocks are multiples of this, so that few shapes recur from batch to batch, see `rounded_size`."""

LONGEST_WRITTEN_OUT = 256
"""Length up to which attention written out is preferred to torch's kernel on a CPU in half precision, whose backward
pass is slow where segments are short."""

TILE = 128
"""Queries, and keys, that the flash kernel multiplies at once; what a shorter segment leaves of a tile is wasted."""


# The number of segments is data, which a compiled graph cannot hold.
@torch.compiler.disable
def masks_touch_fewer_tiles(segment_ids: torch.Tensor) -> bool:
    """Whether kernels on CUDA have less to do with masks over whole rows than segment by segment.

    A tile takes about as long in both cases. Sentences of 14 tokens in rows of 256 fill 4 tiles a row with masks, and
    18 without.

    Args:
        segment_ids: `(batch, length)`.
    """
    rows, length = segment_ids.shape
    return rows * ceil(length / TILE) ** 2 < int(segment_ids.amax(dim=-1).sum())


def varlen_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention inside each segment of tokens that stand end to end.

    Args:
        module: The attention that calls; its `is_causal` says whether a query sees only what stands before it.
        query: `(1, num_attention_heads, query_tokens, head_dim)`.
        key: `(1, num_key_value_heads, key_tokens, head_dim)`.
        value: As `key`.
        attention_mask: Only for `sdpa`, which takes over where no `cu_seq_lens_q` is given.
        scaling: Factor on the scores.
        dropout: Must be 0: the kernel has none.
        cu_seq_lens_q: `(segments + 1,)`, where each segment's queries begin.
        cu_seq_lens_k: `(segments + 1,)`, where each segment's keys begin.
        max_length_q: Queries in the longest segment.
        max_length_k: Keys in the longest segment.
        **kwargs: What other implementations need.

    Returns:
        Context vectors `(1, query_tokens, num_attention_heads, head_dim)`, and `None` for the weights.

    Raises:
        ValueError: If dropout is asked for, or on CUDA a dtype that the kernel does not compute in.
    """
    if cu_seq_lens_q is None or cu_seq_lens_k is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if dropout:
        raise ValueError(f"`attention_dropout` must be 0 with the attention implementation 'varlen', got {dropout}.")
    is_causal = bool(getattr(module, "is_causal", False))
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    starts = (cu_seq_lens_q, cu_seq_lens_k)
    if query.is_cuda:
        context = _attend_by_kernel(query, key, value, *starts, max_length_q, max_length_k, is_causal, scaling)
    else:
        context = _attend_by_blocks(query, key, value, *starts, is_causal, scaling)
    return context[None], None


def _attend_by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens_q: torch.Tensor,
    cu_seq_lens_k: torch.Tensor,
    max_length_q: int | None,
    max_length_k: int | None,
    is_causal: bool,
    scaling: float | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    if query.dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(
            "The attention implementation 'varlen' computes in float16 or bfloat16 on CUDA, "
            f"got {query.dtype}: train with `bf16: true`, or load the model with `dtype=torch.bfloat16`."
        )
    # A window that reaches back without end and forward not at all is the causal order.
    options: dict[str, Any] = {"scale": scaling, "window_size": (-1, 0 if is_causal else -1)}
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in varlen_arguments(varlen_attn):
            options["enable_gqa"] = True
        else:
            # torch 2.11 wants a key head for each query head.
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    lengths: Any = (cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k)
    # Alone, since `return_aux` is not asked for.
    context: Any = varlen_attn(query, key, value, *lengths, **options)
    return context


@cache
def varlen_arguments(kernel: Any) -> frozenset[str]:
    """The names of a kernel's arguments, which differ from one torch to the next."""
    return frozenset(inspect.signature(kernel).parameters)


class _Gather(torch.autograd.Function):
    """Puts rows in other places, each in one place at the most, with zeros where none stands.

    torch would add up the gradients of rows that are taken from a tensor, one after the other; these go back as they
    came.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, places: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        """Returns `rows[places]`, of shape `(len(places), width)`.

        Args:
            ctx: What the backward pass needs.
            rows: `(rows, width)`.
            places: Which row stands at each place; `len(rows)` means zeros.
            inverse: At which place each row stands; `len(places)` means at none.
        """
        ctx.save_for_backward(inverse)
        return _take(rows, places)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Returns the gradient of `rows`."""
        (inverse,) = ctx.saved_tensors
        return _take(gradients[0], inverse), None, None


def _take(rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    # What has no row takes the one behind the last.
    return torch.cat((rows, rows.new_zeros(1, rows.shape[1]))).index_select(0, places)


@dataclass(frozen=True)
class SegmentBlocks:
    """Segments of about equal length together, padded to the longest of them: one block for each such group.

        tokens   a a a b c c d d d d d d      blocks   a a a      d d d d d d
                                                       b . .
                                                       c c .

    Within a segment one head stands after the other, as products of matrices want them. In half precision blocks are a
    little longer, and hold a few segments of padding alone, see `rounded_size`.

    Attributes:
        shapes: Segments of each block and places of each of them.
        places: `(places of all blocks and heads,)`, which head of which token stands there, see `_Gather`.
        inverse: `((tokens + filler) * heads,)`, at which place each stands.
    """

    shapes: list[tuple[int, int]]
    places: torch.Tensor
    inverse: torch.Tensor

    @classmethod
    def of(cls, lengths: torch.Tensor, groups: list[torch.Tensor], states: torch.Tensor) -> SegmentBlocks:
        """The blocks of segments.

        Args:
            lengths: `(segments,)`, tokens of each.
            groups: Which segments are in each block.
            states: `(tokens + filler, heads, head_dim)`.
        """
        shapes = []
        for group in groups:
            longest = max(1, int(lengths[group].max()))
            shapes.append((rounded_size(len(group), states), longest + -longest % LENGTH_STEP))
        ends = list(accumulate(count * length for count, length in shapes))
        starts, room = torch.empty_like(lengths), torch.empty_like(lengths)
        for group, (count, length), end in zip(groups, shapes, ends, strict=True):
            starts[group] = torch.arange(end - count * length, end, length, device=lengths.device)[: len(group)]
            room[group] = length
        # The place of a token's head: behind the heads of all segments before, and the earlier heads of its own.
        size, heads, _ = states.shape
        first_tokens = lengths.cumsum(dim=0) - lengths
        moves = (starts * heads - first_tokens).repeat_interleave(lengths)
        first_places = moves + torch.arange(len(moves), device=lengths.device)
        earlier_heads = room.repeat_interleave(lengths)[:, None] * torch.arange(heads, device=lengths.device)
        inverse = lengths.new_full((size * heads,), ends[-1] * heads)
        inverse[: len(moves) * heads] = (first_places[:, None] + earlier_heads).flatten()
        places = lengths.new_full((ends[-1] * heads + 1,), size * heads)
        places[inverse] = torch.arange(size * heads, device=lengths.device)
        return cls(shapes, places[:-1], inverse)

    def spread(self, states: torch.Tensor) -> list[torch.Tensor]:
        """`(tokens + filler, heads, head_dim)` to a block `(segments, heads, length, head_dim)` for each group."""
        heads = states.shape[1]
        places = _Gather.apply(states.flatten(0, 1), self.places, self.inverse)
        blocks = places.split([count * length * heads for count, length in self.shapes])
        return [
            block.unflatten(0, (count, heads, length))
            for block, (count, length) in zip(blocks, self.shapes, strict=True)
        ]

    def collect(self, blocks: list[torch.Tensor]) -> torch.Tensor:
        """Blocks `(segments, heads, length, head_dim)` to `(tokens + filler, heads, head_dim)`, zeros for filler."""
        places = torch.cat([block.flatten(0, 2) for block in blocks])
        return _Gather.apply(places, self.inverse, self.places).unflatten(0, (-1, blocks[0].shape[1]))


# Blocks differ from batch to batch in number and shape; `torch.compile` would compile anew for each.
@torch.compiler.disable
def _attend_by_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens_q: torch.Tensor,
    cu_seq_lens_k: torch.Tensor,
    is_causal: bool,
    scaling: float | None,
) -> torch.Tensor:
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    query_lengths, key_lengths = cu_seq_lens_q.diff().long(), cu_seq_lens_k.diff().long()
    # The longer side counts; from one block to the next it doubles.
    doublings = torch.maximum(query_lengths, key_lengths).clamp(min=SHORTEST_BLOCK).log2().ceil().long()
    counts = doublings.bincount().tolist()
    groups = list(doublings.argsort(stable=True).split([count for count in counts if count]))
    query_blocks = SegmentBlocks.of(query_lengths, groups, query)
    key_blocks = SegmentBlocks.of(key_lengths, groups, key)
    blocks = zip(groups, query_blocks.spread(query), key_blocks.spread(key), key_blocks.spread(value), strict=True)
    contexts = []
    for group, queries, keys, values in blocks:
        length = keys.shape[2]
        places = torch.arange(length, device=keys.device)
        if is_causal:
            # What hides the later tokens of a segment hides the padding behind it as well.
            hidden = (places > places[:, None])[None, None]
        else:
            of_segments = F.pad(key_lengths[group], (0, len(keys) - len(group)))
            hidden = (places >= of_segments[:, None])[:, None, None]
        mask = queries.new_zeros(hidden.shape).masked_fill(hidden, torch.finfo(queries.dtype).min)
        if queries.dtype != torch.float32 and length <= LONGEST_WRITTEN_OUT:
            contexts.append(_attend_written_out(queries, keys, values, mask, scaling))
        else:
            is_grouped = queries.shape[1] != keys.shape[1]
            contexts.append(
                F.scaled_dot_product_attention(
                    queries, keys, values, attn_mask=mask, scale=scaling, enable_gqa=is_grouped
                )
            )
    return query_blocks.collect(contexts)


def _attend_written_out(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Context vectors of one block, `(segments, heads, length, head_dim)`."""
    segments, heads, length, _ = queries.shape
    # Query heads that share a key head stand one below the other.
    rows = queries.reshape(segments * keys.shape[1], -1, queries.shape[-1])
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)
    mask = mask.expand(segments, heads, length, -1).reshape(len(rows), rows.shape[1], -1)
    weights = torch.baddbmm(mask, rows, keys.transpose(1, 2), alpha=scaling).softmax(dim=-1)
    return torch.bmm(weights.to(values.dtype), values).view(segments, heads, length, -1)


def register_varlen() -> None:
    """Makes `attn_implementation="varlen"` known to Transformers, for attention and for masks."""
    AttentionInterface.register("varlen", varlen_attention_forward)
    # Without this, cached keys would be attended to without any mask.
    AttentionMaskInterface.register("varlen", sdpa_mask)
