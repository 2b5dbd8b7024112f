"""A model as ONNX graphs, traced by the exporters of Transformers and saved in their format.

    encoder-decoder     encoder   source → its states, and the keys and values of every cross-attention
                        decode    one token + cache → logits + cache
    decoder alone       decode    tokens + cache → logits + cache
    other shapes        model     source → states, logits or labels

The cross-attention's projections stand in the encoder's graph, where they run once per source. `decode` then starts
on an empty cache, so that no third graph with the same weights is needed for the first token; and it returns only
what changes, where the general decomposition of Transformers hands the whole cross-attention cache through each step.
"""

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from kakehashi.training.export.folder import Quantization, require_packages

PACKAGES = ("onnx", "onnxscript", "onnx_ir", "onnxruntime")
"""What exporting to ONNX and running it both import."""

# Sizes of the inputs a graph is traced with. Every axis that varies is at least 2 long and unlike the others, or the
# tracer takes it for a constant, or for another axis.
_BATCH, _SOURCE_LENGTH, _PAST_LENGTH, _QUERY_LENGTH = 2, 5, 3, 4
# Angles that depend on the longest row met so far: a graph would keep those of the row it was traced with.
_CHANGING_ROPE_TYPES = ("dynamic", "longrope")


class EncoderGraph(nn.Module):
    """Everything of an encoder-decoder that runs once per source."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.encoder: nn.Module = model.get_encoder()
        decoder: Any = model.get_decoder()
        self.cross_attentions = nn.ModuleList(layer.cross_attn for layer in decoder.layers)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encodes sources.

        Args:
            input_ids: `(batch, source_length)`.
            attention_mask: As `input_ids`, 1 for a token and 0 for padding.

        Returns:
            `last_hidden_state` `(batch, source_length, hidden_size)`, and `cross_keys` and `cross_values`
            `(batch, num_decoder_layers, num_key_value_heads, source_length, head_dim)`.
        """
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        attentions: Any = self.cross_attentions
        pairs = [attention.project_keys_values(states) for attention in attentions]
        return {
            "last_hidden_state": states,
            "cross_keys": torch.stack([keys.transpose(1, 2) for keys, _ in pairs], dim=1),
            "cross_values": torch.stack([values.transpose(1, 2) for _, values in pairs], dim=1),
        }


class CrossDecodeGraph(nn.Module):
    """One token of an encoder-decoder."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = model.get_decoder()
        self.lm_head = model.get_output_embeddings()

    def forward(
        self,
        decoder_input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
        cross_keys: list[torch.Tensor],
        cross_values: list[torch.Tensor],
    ) -> dict[str, Any]:
        """Predicts what follows one token.

        Args:
            decoder_input_ids: `(batch, 1)`.
            attention_mask: `(batch, source_length)`, 1 for a token and 0 for padding.
            keys: For each layer `(batch, num_key_value_heads, past_length, head_dim)`; the past may be empty.
            values: As `keys`.
            cross_keys: For each layer `(batch, num_key_value_heads, source_length, head_dim)`.
            cross_values: As `cross_keys`.

        Returns:
            `logits` `(batch, 1, vocab_size)`, and `keys` and `values` longer by one.
        """
        past = DynamicCache(list(zip(keys, values, strict=True)))
        cache = EncoderDecoderCache(past, DynamicCache(list(zip(cross_keys, cross_values, strict=True))))
        # Only their number is looked at when the cache holds their keys and values: of no width, they cost nothing.
        source = cross_keys[0].new_zeros(cross_keys[0].shape[0], cross_keys[0].shape[2], 1)
        states = self.decoder(
            input_ids=decoder_input_ids,
            encoder_hidden_states=source,
            encoder_attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return {"logits": self.lm_head(states).float(), **_layers_of(past)}


class DecodeGraph(nn.Module):
    """A prompt, or the next token of it, through a decoder alone."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = model.get_decoder()
        self.lm_head = model.get_output_embeddings()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
    ) -> dict[str, Any]:
        """Predicts what follows the last token.

        Args:
            input_ids: `(batch, query_length)`.
            attention_mask: `(batch, past_length + query_length)`, 1 for a token and 0 for padding.
            position_ids: As `input_ids`.
            keys: For each layer `(batch, num_key_value_heads, past_length, head_dim)`; the past may be empty.
            values: As `keys`.

        Returns:
            `logits` `(batch, 1, vocab_size)`, and `keys` and `values` longer by the query.
        """
        past = DynamicCache(list(zip(keys, values, strict=True)))
        states = self.decoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past,
            use_cache=True,
        ).last_hidden_state
        return {"logits": self.lm_head(states[:, -1:]).float(), **_layers_of(past)}


def write_onnx(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: Quantization | None
) -> None:
    """Writes the graphs of a model and the manifest that lists them.

    Args:
        model: Any kakehashi model.
        tokenizer: Not looked at: a graph knows ids only.
        folder: Where to; it exists.
        quantization: `int8` makes the matrices int8 and the rest stay float32, by ONNX Runtime's dynamic
            quantization; `float16` makes weights and computation float16.

    Raises:
        ValueError: If the packages of the extra are missing, Transformers is too old, or the angles of rotary
            positions change with the length of a row.
    """
    exporters = require_exporters()
    require_fixed_angles(model.config)
    source = copy.deepcopy(model).eval().requires_grad_(False)
    source = source.to(torch.float16 if quantization == "float16" else torch.float32)
    # The implementations for training kernels cannot be traced, and all agree.
    source.set_attn_implementation("sdpa")
    with _quiet():
        exporter = exporters.OnnxExporter()
    components = {}
    for name, (graph, inputs, axes) in _graphs_of(source).items():
        settings = exporters.OnnxConfig(
            dynamic=True,
            dynamic_shapes=axes,
            # Without, the tracer refuses a length as soon as one comparison in the graph might depend on it.
            prefer_deferred_runtime_asserts_over_guards=True,
            quantizer=_int8_quantizer(exporters) if quantization == "int8" else None,
        )
        with _quiet():
            components[name] = exporter.export(graph.eval(), inputs, settings).components["model"]
    exporters.ExportedModel(components, "onnx").save_pretrained(folder)


def require_exporters() -> Any:
    """Returns the module `transformers.exporters`.

    Raises:
        ValueError: If the packages of the extra are missing or Transformers is too old.
    """
    import transformers

    try:
        from transformers import exporters

        # The exporters are older, but only since 5.23 can they save and run what they trace.
        exporters.ExportedModel  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"onnx needs transformers 5.23 or newer, for Python 3.11 or newer, got {transformers.__version__}: pip "
            "install 'kakehashi[onnx]'"
        ) from error
    require_packages("onnx", *PACKAGES)
    return exporters


def require_fixed_angles(config: PreTrainedConfig) -> None:
    """Checks that one graph computes what this configuration describes, at every length.

    Raises:
        ValueError: If rotary positions are scaled by the length of the row.
    """
    if getattr(config, "position_embedding_type", "rope") != "rope":
        return
    rope_type = config.rope_parameters["rope_type"]
    if rope_type in _CHANGING_ROPE_TYPES:
        raise ValueError(
            f"onnx needs `rope_parameters['rope_type']` to be none of {', '.join(_CHANGING_ROPE_TYPES)}, whose angles "
            f"change with the length, got {rope_type!r}"
        )


def _graphs_of(model: PreTrainedModel) -> dict[str, tuple[nn.Module, dict[str, Any], dict[str, Any]]]:
    """The graphs of a model by name, each with the inputs to trace it with and the axes of those that vary."""
    varies = torch.export.Dim.DYNAMIC
    source_ids = torch.arange(_BATCH * _SOURCE_LENGTH).reshape(_BATCH, _SOURCE_LENGTH) % model.config.vocab_size
    source_mask = torch.ones_like(source_ids)
    # Padding, so that no mask is left out of the graph as needless.
    source_mask[1, -2:] = 0
    rows_and_columns = {0: varies, 1: varies}
    source = {"input_ids": source_ids, "attention_mask": source_mask}
    source_axes: dict[str, Any] = {name: rows_and_columns for name in source}
    if not model.can_generate():
        return {"model": (model, source, source_axes)}
    layers = range(model.config.num_decoder_layers)
    cache_axes = [{0: varies, 2: varies} for _ in layers]
    past_axes = {"keys": cache_axes, "values": cache_axes}
    past = {"keys": [_random_cache(model, _PAST_LENGTH) for _ in layers]}
    past["values"] = [_random_cache(model, _PAST_LENGTH) for _ in layers]
    if not model.config.is_encoder_decoder:
        query = source_ids[:, :_QUERY_LENGTH]
        mask = torch.ones(_BATCH, _PAST_LENGTH + _QUERY_LENGTH, dtype=torch.long)
        mask[1, 0] = 0
        positions = torch.arange(_QUERY_LENGTH)[None].repeat(_BATCH, 1) + _PAST_LENGTH
        inputs = {"input_ids": query, "attention_mask": mask, "position_ids": positions, **past}
        axes = {name: rows_and_columns for name in ("input_ids", "attention_mask", "position_ids")} | past_axes
        return {"decode": (DecodeGraph(model), inputs, axes)}
    step = {"decoder_input_ids": source_ids[:, :1], "attention_mask": source_mask, **past}
    step["cross_keys"] = [_random_cache(model, _SOURCE_LENGTH) for _ in layers]
    step["cross_values"] = [_random_cache(model, _SOURCE_LENGTH) for _ in layers]
    step_axes = {"decoder_input_ids": {0: varies}, "attention_mask": rows_and_columns, **past_axes}
    step_axes |= {"cross_keys": cache_axes, "cross_values": cache_axes}
    return {
        "encoder": (EncoderGraph(model), source, source_axes),
        "decode": (CrossDecodeGraph(model), step, step_axes),
    }


def _random_cache(model: PreTrainedModel, length: int) -> torch.Tensor:
    config: Any = model.config
    return torch.randn(_BATCH, config.num_key_value_heads, length, config.head_dim).to(model.dtype)


def _layers_of(cache: DynamicCache) -> dict[str, list[torch.Tensor]]:
    layers: list[Any] = cache.layers
    return {"keys": [layer.keys for layer in layers], "values": [layer.values for layer in layers]}


def _int8_quantizer(exporters: Any) -> Any:
    from onnxruntime.quantization import QuantType

    # A scale for each output feature, as CTranslate2 has too.
    settings = exporters.OnnxRuntimeDynamicConfig(per_channel=True, weight_type=QuantType.QInt8)
    return exporters.OnnxRuntimeQuantizer(settings)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the tracer's progress off stdout, and its remarks about itself off stderr."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
