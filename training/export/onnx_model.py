"""Running exported ONNX graphs, with the decoding of Transformers around them.

`OnnxGenerator` is a model without weights of its own: `generate` does everything it does for a PyTorch model (greedy,
beams, sampling, penalties), only that the forward pass runs on ONNX Runtime.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast, Seq2SeqLMOutput

from kakehashi.modeling.positions_kakehashi import positions_of_tokens
from kakehashi.training.export.onnx import require_exporters

Runner = Callable[..., Any]
"""A graph on ONNX Runtime: keyword arguments as it was traced with, what the traced module returned."""


@dataclass
class SourceStates(BaseModelOutput):
    """What the decoder needs of a source. Every field has the batch first, so that beam search can repeat it."""

    cross_keys: torch.Tensor | None = None
    cross_values: torch.Tensor | None = None


class OnnxEncoder(nn.Module):
    """The graph that runs once per source, as `generate` calls an encoder."""

    main_input_name = "input_ids"

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> SourceStates:
        """Encodes sources `(batch, source_length)`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return SourceStates(**self.runner(input_ids=input_ids, attention_mask=attention_mask))


class OnnxModel(PreTrainedModel):
    """An exported model as a whole; its parameters are inside the graphs."""

    config_class = PreTrainedConfig
    _supports_sdpa = True

    def __init__(self, config: PreTrainedConfig, runners: dict[str, Runner]) -> None:
        super().__init__(config)
        self.runners = runners

    @property
    def device(self) -> torch.device:
        """Where the graphs run."""
        runner: Any = next(iter(self.runners.values()))
        return runner.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of cached keys and values."""
        runner: Any = next(iter(self.runners.values()))
        return runner.dtype


class OnnxLabeler(OnnxModel):
    """An exported encoder, with or without a head."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        """Runs the one graph; the output is that of the model it was traced from."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return self.runners["model"](input_ids=input_ids, attention_mask=attention_mask)


class OnnxGenerator(OnnxModel, GenerationMixin):
    """What the two exported shapes that write text share: the cache between steps."""

    def __init__(
        self, config: PreTrainedConfig, runners: dict[str, Runner], generation_config: GenerationConfig | None
    ) -> None:
        super().__init__(config, runners)
        if generation_config is not None:
            self.generation_config = generation_config

    def _step(self, cache: DynamicCache, **inputs: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        """Runs `decode` on the cache, extends the cache and returns the logits."""
        ids: Any = inputs.get("input_ids", inputs.get("decoder_input_ids"))
        self._check_length(cache.get_seq_length() + ids.shape[1])
        layers: list[Any] = cache.layers
        keys, values = [each.keys for each in layers], [each.values for each in layers]
        if not cache.get_seq_length():
            keys = values = [self._empty_past(len(ids)) for _ in range(self.config.num_decoder_layers)]
        outputs = self.runners["decode"](keys=keys, values=values, **inputs)
        for index, (new_keys, new_values) in enumerate(zip(outputs["keys"], outputs["values"], strict=True)):
            # The graph has appended already.
            _replace(cache, index, new_keys, new_values)
        return outputs["logits"]

    def _check_length(self, length: int) -> None:
        """Says what ONNX Runtime would only number: that a learned table of positions has come to its end."""
        longest = self.config.max_position_embeddings
        if getattr(self.config, "position_embedding_type", "rope") == "learned" and length > longest:
            raise ValueError(f"`max_position_embeddings` is {longest}, got {length} tokens: lower `max_new_tokens`")

    def _empty_past(self, batch: int) -> torch.Tensor:
        shape = batch, self.config.num_key_value_heads, 0, self.config.head_dim
        return torch.empty(shape, dtype=self.dtype, device=self.device)


class OnnxSeq2SeqGenerator(OnnxGenerator):
    """An exported encoder-decoder."""

    def __init__(
        self, config: PreTrainedConfig, runners: dict[str, Runner], generation_config: GenerationConfig | None
    ) -> None:
        super().__init__(config, runners, generation_config)
        self.encoder = OnnxEncoder(runners["encoder"])

    def get_encoder(self, modality: str | None = None) -> OnnxEncoder:
        """The encoder's graph."""
        return self.encoder

    def forward(
        self,
        decoder_input_ids: torch.Tensor,
        encoder_outputs: SourceStates,
        past_key_values: EncoderDecoderCache,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Predicts what follows one token, `(batch, 1)`, of each target."""
        own, cross = past_key_values.self_attention_cache, past_key_values.cross_attention_cache
        if not past_key_values.is_updated.get(0):
            assert encoder_outputs.cross_keys is not None and encoder_outputs.cross_values is not None
            pairs = zip(encoder_outputs.cross_keys.unbind(1), encoder_outputs.cross_values.unbind(1), strict=True)
            for index, (keys, values) in enumerate(pairs):
                _replace(cross, index, keys.contiguous(), values.contiguous())
                past_key_values.is_updated[index] = True
        layers: list[Any] = cross.layers
        if attention_mask is None:
            attention_mask = decoder_input_ids.new_ones(len(decoder_input_ids), layers[0].keys.shape[2])
        logits = self._step(
            own,
            decoder_input_ids=decoder_input_ids,
            attention_mask=attention_mask,
            cross_keys=[each.keys for each in layers],
            cross_values=[each.values for each in layers],
        )
        return Seq2SeqLMOutput(logits=logits, past_key_values=past_key_values)


class OnnxCausalGenerator(OnnxGenerator):
    """An exported decoder alone."""

    def forward(
        self,
        input_ids: torch.Tensor,
        past_key_values: DynamicCache,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Predicts what follows the last of some tokens, `(batch, query_length)`."""
        # Left out by `generate` where no row is padded; a graph has no such choice.
        seen, (batch, length) = past_key_values.get_seq_length(), input_ids.shape
        if attention_mask is None:
            attention_mask = input_ids.new_ones(batch, seen + length)
        if position_ids is None:
            position_ids = positions_of_tokens(attention_mask, length)
        logits = self._step(
            past_key_values, input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids
        )
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)


def load_onnx(
    folder: Path, config: PreTrainedConfig, generation_config: GenerationConfig | None, device: str | None
) -> OnnxModel:
    """Opens the graphs of a folder.

    Args:
        folder: What `write_onnx` filled.
        config: The configuration in it.
        generation_config: The generation settings in it; `None` if the model writes no text.
        device: `cpu` or `cuda`; `None` takes a GPU if ONNX Runtime was built for one.

    Raises:
        ValueError: If the packages of the extra are missing, Transformers is too old, the graphs are damaged or ONNX
            Runtime lacks the device.
    """
    exporters = require_exporters()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # It counts the cores of the machine; torch's number also knows what the process was given.
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # x86-64 processors without VNNI would cut off sums of 8-bit products; others compute as ever.
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        exported = exporters.ExportedModel.from_pretrained(
            folder, device=device, local_files_only=True, session_options=options
        )
    except ValueError as error:
        raise ValueError(f"`device` must be one that ONNX Runtime has, got {device}: {error}") from error
    except Exception as error:
        # ONNX Runtime raises classes of its own, without a common base.
        raise ValueError(f"the graphs of {folder} cannot be read: {error}") from error
    runners = exported.runners
    if "encoder" in runners:
        return OnnxSeq2SeqGenerator(config, runners, generation_config)
    if "decode" in runners:
        return OnnxCausalGenerator(config, runners, generation_config)
    return OnnxLabeler(config, runners)


def _replace(cache: DynamicCache, index: int, keys: torch.Tensor, values: torch.Tensor) -> None:
    """Puts keys and values in the place of what a layer of the cache held."""
    layer: Any = cache.layers[index]
    if not layer.is_initialized:
        layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
