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
cross-attention, whose queries and keys may differ in length. Elsewhere each segment is attended to by itself, with the
same result: the reference, and on a CPU a way to pack without paying for the empty blocks of a mask.

Where keys come from a cache, lengths are those of the cache, and masks and `sdpa` take over.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


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
    arguments: Any = [states[0].transpose(0, 1) for states in (query, key, value)]
    arguments += [cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k, is_causal, scaling]
    attend = _attend_by_kernel if query.is_cuda else _attend_by_segment
    return attend(*arguments)[None], None


def _attend_by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens_q: torch.Tensor,
    cu_seq_lens_k: torch.Tensor,
    max_length_q: int,
    max_length_k: int,
    is_causal: bool,
    scaling: float | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    if torch.is_autocast_enabled("cuda"):
        # Norms leave queries and keys in float32 where the projections computed in half precision.
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
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
    lengths = (cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k)
    # Alone, since `return_aux` is not asked for.
    context: Any = varlen_attn(query, key, value, *lengths, **options)
    return context


@cache
def varlen_arguments(kernel: Any) -> frozenset[str]:
    """The names of a kernel's arguments, which differ from one torch to the next."""
    return frozenset(inspect.signature(kernel).parameters)


def _attend_by_segment(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens_q: torch.Tensor,
    cu_seq_lens_k: torch.Tensor,
    max_length_q: int,
    max_length_k: int,
    is_causal: bool,
    scaling: float | None,
) -> torch.Tensor:
    query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
    query_lengths, key_lengths = cu_seq_lens_q.diff().tolist(), cu_seq_lens_k.diff().tolist()
    segments = zip(
        query.split(query_lengths, dim=1), key.split(key_lengths, dim=1), value.split(key_lengths, dim=1), strict=True
    )
    contexts = [
        F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=is_causal, scale=scaling, enable_gqa=True)
        for q, k, v in segments
    ]
    return torch.cat([context[0] for context in contexts], dim=1).transpose(0, 1)


def register_varlen() -> None:
    """Makes `attn_implementation="varlen"` known to Transformers, for attention and for masks."""
    AttentionInterface.register("varlen", varlen_attention_forward)
    # Without this, cached keys would be attended to without any mask.
    AttentionMaskInterface.register("varlen", sdpa_mask)
