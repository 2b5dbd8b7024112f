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
"""Several examples in one row, and rows without padding: segments, their positions, their masks, their layout.

A packed row holds examples one after another. Segment ids number them from 1, in order, without gaps; 0 is padding. A
source and its target carry the same number, whatever their lengths:

    source       I  love cats </s> Good morning </s> <pad>      target       私 は 猫 </s> おはよう </s> <pad> <pad>
    segment_ids  1  1    1    1    2    2       2    0          decoder_…    1  1  1  1    2        2    0     0
    positions    0  1    2    3    0    1       2    0          positions    0  1  2  3    0        1    0     0

Each token sees only its own segment, as if every example stood in a row of its own. Where masks are used, a mask says
so; the variable-length kernels need none: `TokenLayout` lays all tokens of a batch end to end and tells where each
segment begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from .attention_kakehashi import product_dtype

IMPLEMENTATIONS_WITH_SCORES = ("eager", "sdpa", "varlen")
"""Implementations whose masks are numbers to add to the scores; `varlen` with masks is `sdpa`."""


def rounded_size(size: int, states: torch.Tensor) -> int:
    """`size`, or up to a sixteenth more (3 more where it is small), so that products come in few sizes.

    On a CPU in half precision oneDNN builds a kernel for each shape that it has not met, which takes as long as
    several products of a small model. Elsewhere sizes stay as they are. In a compiled graph they are multiples of 64.

    Args:
        size: Tokens, positions or segments.
        states: What is multiplied, of any shape.
    """
    if states.device.type != "cpu" or product_dtype(states) == torch.float32:
        return size
    # Between two powers of two there are sixteen sizes. A graph that serves every size cannot ask how large one is.
    step = 64 if torch.compiler.is_compiling() else 1 << max(2, size.bit_length() - 5)
    return size + -size % step


def check_packing(segment_ids: torch.Tensor | None, decoder_segment_ids: torch.Tensor | None) -> None:
    """Checks the segment ids of a batch, unless a compiler is tracing, which cannot read them.

    Raises:
        ValueError: If segments are not numbered in order, or differ between source and target.
    """
    if torch.compiler.is_compiling():
        return
    if segment_ids is not None:
        check_segments(segment_ids, "segment_ids")
    if decoder_segment_ids is not None:
        if segment_ids is None:
            raise ValueError("`segment_ids` must be given beside `decoder_segment_ids`, got None.")
        check_segments(decoder_segment_ids, "decoder_segment_ids")
        check_same_segments(segment_ids, decoder_segment_ids)


def check_segments(segment_ids: torch.Tensor, name: str) -> None:
    """Refuses segment ids that do not number the segments of each row 1, 2, 3 … in order and in one piece each.

    Args:
        segment_ids: `(batch, length)`, 0 for padding.
        name: What the segment ids are called.

    Raises:
        ValueError: Naming the first place that breaks the rule.
    """
    counted = segment_starts(segment_ids).cumsum(dim=-1)
    wrong = (segment_ids != counted) & (segment_ids != 0)
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"`{name}` must number the segments of each row 1, 2, 3 … in order, 0 for padding; row {row}, "
            f"position {column} should be {counted[row, column].item()}, got {segment_ids[row, column].item()}."
        )


def check_same_segments(segment_ids: torch.Tensor, decoder_segment_ids: torch.Tensor) -> None:
    """Refuses a target that does not hold the same segments as its source.

    Raises:
        ValueError: Naming the first row that differs.
    """
    source, target = segment_ids.amax(dim=-1), decoder_segment_ids.amax(dim=-1)
    if not torch.equal(source, target):
        row = int((source != target).nonzero()[0])
        raise ValueError(
            "`segment_ids` and `decoder_segment_ids` must hold the same segments in each row, "
            f"got {source[row].item()} and {target[row].item()} of them in row {row}."
        )


def check_whole_segments(segment_ids: torch.Tensor) -> None:
    """Refuses segments in two pieces, as a mask leaves them that hides a place between two tokens of one.

    Args:
        segment_ids: `(batch, length)`, 0 for padding and for what the mask hides.

    Raises:
        ValueError: Naming the first place at which a second piece begins.
    """
    latest = F.pad(segment_ids[:, :-1], (1, 0)).cummax(dim=-1).values
    torn = segment_starts(segment_ids) & (segment_ids <= latest)
    if torn.any():
        row, column = torn.nonzero()[0].tolist()
        raise ValueError(
            "`attention_mask` must not hide a place inside a segment, got 0 before position "
            f"{column} of row {row}, which goes on with segment {segment_ids[row, column].item()}."
        )


def segment_starts(segment_ids: torch.Tensor) -> torch.Tensor:
    """Whether a segment begins at each place, `(batch, length)`; padding begins nothing."""
    before = F.pad(segment_ids[:, :-1], (1, 0))
    return (segment_ids != before) & (segment_ids != 0)


def positions_in_segments(segment_ids: torch.Tensor) -> torch.Tensor:
    """The position of each token in its segment, `(batch, length)`; 0 for padding."""
    places = torch.arange(segment_ids.shape[1], device=segment_ids.device).expand_as(segment_ids)
    first_places = places.masked_fill(~segment_starts(segment_ids), 0).cummax(dim=-1).values
    return (places - first_places).masked_fill(segment_ids == 0, 0)


def self_attention_mask(
    config: PreTrainedConfig,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segment_ids: torch.Tensor | None,
    *,
    is_causal: bool,
    position_ids: torch.Tensor | None = None,
    past_key_values: Cache | None = None,
    keep_causal_mask: bool = False,
) -> Any:
    """The mask of a stack's self-attention, in the form that the chosen attention implementation takes.

    Args:
        config: Names the attention implementation.
        hidden_states: `(batch, length, hidden_size)`.
        attention_mask: `(batch, cached_length + length)`, 1 for a token and 0 for padding.
        segment_ids: `(batch, length)`, in place of `attention_mask` where rows are packed.
        is_causal: Whether a token sees only what stands before it.
        position_ids: `(batch, length)` as the caller gave them; positions that restart mark packed rows, too.
        past_key_values: Cache of self-attention.
        keep_causal_mask: Write the causal order into the mask even where a flag would do.

    Returns:
        A mask, or `None` where nothing but a causal flag is needed.
    """
    if segment_ids is not None:
        return _packed_mask(config, hidden_states, segment_ids, segment_ids, is_causal=is_causal)
    if attention_mask is None and _hides_nothing(config, hidden_states, past_key_values):
        return None
    arguments: dict[str, Any] = {"config": config, "inputs_embeds": hidden_states, "attention_mask": attention_mask}
    if is_causal:
        mask = create_causal_mask(**arguments, past_key_values=past_key_values, position_ids=position_ids)
    else:
        mask = create_bidirectional_mask(**arguments)
    length = hidden_states.shape[1]
    if mask is None and keep_causal_mask and length > 1:
        mask = _causal_order(length, hidden_states.device)[None, None]
    return _in_numbers(mask, config, hidden_states)


def _hides_nothing(config: PreTrainedConfig, hidden_states: torch.Tensor, past_key_values: Cache | None) -> bool:
    # One token after a cache of nothing but earlier tokens, unlike a static one with room for later ones. To be told
    # so by Transformers takes as long as a linear layer, at every token that is written.
    if past_key_values is None or hidden_states.shape[1] != 1 or past_key_values.is_compileable:
        return False
    return config._attn_implementation in IMPLEMENTATIONS_WITH_SCORES


def _causal_order(length: int, device: torch.device) -> torch.Tensor:
    places = torch.arange(length, device=device)
    return places <= places[:, None]


def _packed_mask(
    config: PreTrainedConfig,
    hidden_states: torch.Tensor,
    query_segments: torch.Tensor,
    key_segments: torch.Tensor,
    *,
    is_causal: bool = False,
) -> Any:
    if config._attn_implementation in IMPLEMENTATIONS_WITH_SCORES:
        # Transformers would call a function of four indices through `torch.vmap`, and while that runs, as long as
        # several layers take, the processor starts no kernel.
        visible = query_segments[:, None, :, None] == key_segments[:, None, None, :]
        if is_causal:
            visible = visible & _causal_order(query_segments.shape[1], query_segments.device)
        return _in_numbers(visible, config, hidden_states)

    def same_segment(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return query_segments[batch, query] == key_segments[batch, key]

    arguments: dict[str, Any] = {"config": config, "inputs_embeds": hidden_states, "and_mask_function": same_segment}
    if is_causal:
        return create_causal_mask(**arguments, attention_mask=None, past_key_values=None)
    # Only the length of the keys is read.
    keys = hidden_states.new_empty(1).expand(*key_segments.shape, 1)
    return create_bidirectional_mask(**arguments, attention_mask=None, encoder_hidden_states=keys)


def _in_numbers(mask: Any, config: PreTrainedConfig, hidden_states: torch.Tensor) -> Any:
    # `scaled_dot_product_attention` would make numbers of the same booleans in every layer anew.
    if config._attn_implementation not in IMPLEMENTATIONS_WITH_SCORES or mask is None or mask.dtype != torch.bool:
        return mask
    # Not infinity: padding of a target whose source has none sees nothing, and the softmax of nothing is no number.
    dtype = product_dtype(hidden_states)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def cross_attention_mask(
    config: PreTrainedConfig,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    encoder_attention_mask: torch.Tensor | None,
    segment_ids: torch.Tensor | None,
    encoder_segment_ids: torch.Tensor | None,
) -> Any:
    """The mask of cross-attention, in the form that the chosen attention implementation takes.

    Args:
        config: Names the attention implementation.
        hidden_states: `(batch, target_length, hidden_size)`.
        encoder_hidden_states: `(batch, source_length, hidden_size)`.
        encoder_attention_mask: `(batch, source_length)`, 1 for a token and 0 for padding.
        segment_ids: `(batch, target_length)`, where rows are packed.
        encoder_segment_ids: `(batch, source_length)`, where rows are packed.

    Returns:
        A mask, or `None` where every token sees every other.
    """
    if segment_ids is not None and encoder_segment_ids is not None:
        return _packed_mask(config, hidden_states, segment_ids, encoder_segment_ids)
    mask = create_bidirectional_mask(
        config=config,
        inputs_embeds=hidden_states,
        attention_mask=encoder_attention_mask,
        encoder_hidden_states=encoder_hidden_states,
    )
    return _in_numbers(mask, config, hidden_states)


def add_bias(mask: torch.Tensor | None, bias: torch.Tensor) -> torch.Tensor:
    """A mask of numbers to add to attention scores: the bias, and very negative where the mask hides.

    Args:
        mask: `(batch, 1, query_length, key_length)`, 0 to see and very negative to hide. `None` hides nothing.
        bias: `(1, num_attention_heads, query_length, key_length)`.
    """
    if mask is None:
        return bias
    return bias.masked_fill(mask != 0, torch.finfo(bias.dtype).min)


@dataclass
class TokenLayout:
    """All tokens of a batch end to end, padding left out, and where each segment begins.

        row 0   a b </s> <pad>          tokens       a b </s> c </s> d e </s>
        row 1   c </s> d e </s>   →     cu_seq_lens  0 3 5 8        max_length 3
                1 1    2 2 2

    Attributes:
        batch: Rows.
        length: Places in a row.
        indices: `(tokens,)`, the place of each token when all rows stand end to end. `None` if no place is padding.
        filler: Zeros after the last token, which belong to no segment, see `rounded_size`.
        cu_seq_lens: `(segments + 1,)`, int32: where each segment begins among the tokens, and where the last ends.
        max_length: Tokens in the longest segment.
    """

    batch: int
    length: int
    indices: torch.Tensor | None
    filler: int
    cu_seq_lens: torch.Tensor
    max_length: int

    @classmethod
    # The number of tokens and the longest piece are data, which a compiled graph cannot hold.
    @torch.compiler.disable
    def of(
        cls, states: torch.Tensor, attention_mask: torch.Tensor | None, segment_ids: torch.Tensor | None
    ) -> TokenLayout:
        """The layout of a batch.

        Args:
            states: `(batch, length, …)`.
            attention_mask: `(batch, length)`, 1 for a token and 0 for padding. `None` means no padding.
            segment_ids: `(batch, length)`, in place of `attention_mask` where rows are packed.
        """
        batch, length = states.shape[:2]
        if segment_ids is None and attention_mask is None:
            starts = torch.arange(0, (batch + 1) * length, length, device=states.device, dtype=torch.int32)
            return cls(batch, length, None, 0, starts, length)
        if segment_ids is None:
            is_token = attention_mask.bool()  # type: ignore[union-attr]
            # A row without any token still counts, so that the rows of source and target go on matching.
            lengths = is_token.sum(dim=-1)
        else:
            is_token = segment_ids != 0
            starts_at = segment_starts(segment_ids).flatten().cumsum(dim=0)[is_token.flatten()]
            lengths = torch.bincount(starts_at)[1:]
        indices = is_token.flatten().nonzero().squeeze(-1)
        cu_seq_lens = F.pad(lengths.cumsum(dim=0), (1, 0)).to(torch.int32)
        filler = rounded_size(len(indices), states) - len(indices)
        return cls(batch, length, indices, filler, cu_seq_lens, int(lengths.max()) if len(lengths) else 0)

    def unpad(self, states: torch.Tensor) -> torch.Tensor:
        """`(batch, length, …)` to `(1, tokens + filler, …)`."""
        flat = states.flatten(0, 1)
        if self.indices is not None:
            flat = flat[self.indices]
        return (torch.cat((flat, flat.new_zeros(self.filler, *flat.shape[1:]))) if self.filler else flat)[None]

    def unpad_positions(self, position_ids: torch.Tensor) -> torch.Tensor:
        """`(batch or 1, length)` to `(1, tokens + filler)`."""
        return self.unpad(position_ids.expand(self.batch, self.length))

    def pad(self, states: torch.Tensor) -> torch.Tensor:
        """`(1, tokens + filler, …)` to `(batch, length, …)`, zeros for padding."""
        states = states[0]
        if self.indices is not None:
            places = states.new_zeros(self.batch * self.length, *states.shape[1:])
            states = places.index_copy(0, self.indices, states[: len(self.indices)])
        return states.unflatten(0, (self.batch, self.length))

    def arguments(self, keys: TokenLayout | None = None) -> dict[str, Any]:
        """What variable-length kernels are told of queries in this layout, and of keys in theirs or in the same."""
        keys = keys or self
        return {
            "cu_seq_lens_q": self.cu_seq_lens,
            "cu_seq_lens_k": keys.cu_seq_lens,
            "max_length_q": self.max_length,
            "max_length_k": keys.max_length,
        }
