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
"""What every kakehashi class shares: loading, saving, and the weights that training begins with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .configuration_kakehashi import KakehashiConfig
from .positions_kakehashi import KakehashiLearnedPositions


class KakehashiPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation of every kakehashi class.

    Linear weights start with variance 1 / fan_in, so that each sub-layer turns normalised features into features of
    unit size; what writes into the residual stream starts at another size, see `KakehashiStack`. The embedding starts
    at `initializer_range`, small enough for a first loss near ln(vocab_size).
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

    def mark_tied_weights_as_initialized(self, loading_info: Any) -> None:
        """Marks the copies of tied weights as loaded, for the source of a tie is; but not a source that is missing.

        The stacks hold the very embedding that is the source of their tie. Marked with them, it would pass for loaded
        and stay empty where a checkpoint has no embedding, or has it under another name of the tie.
        """
        missing, ties = set(loading_info.missing_keys), self.all_tied_weights_keys
        super().mark_tied_weights_as_initialized(loading_info)
        for source in missing.intersection(ties.values()):
            weight = self.get_parameter(source)
            same = {name for name, tied_to in ties.items() if tied_to == source and self.get_parameter(name) is weight}
            if same <= missing:
                weight._is_hf_initialized = False  # type: ignore[attr-defined]
                loading_info.missing_keys.add(source)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Saves as every model does, except stacks whose embeddings have come apart: a folder is read with one.

        Raises:
            ValueError: If the embeddings differ.
        """
        embeddings: set[Any] = {module.embed_tokens for module in self.modules() if hasattr(module, "embed_tokens")}
        first, *others = [embedding.weight for embedding in embeddings]
        if not all(torch.equal(first, other.to(first.device)) for other in others):
            raise ValueError(
                "`embed_tokens` of the stacks must be one table to be saved, but they have come apart, as by "
                '`modules_to_save=["embed_tokens"]` of PEFT: train new tokens with `trainable_token_indices` instead.'
            )
        super().save_pretrained(*args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=module.in_features**-0.5)
        elif isinstance(module, KakehashiLearnedPositions):
            init.normal_(module.weight, mean=0.0, std=module.initial_std)
