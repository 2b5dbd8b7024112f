"""Floating-point operations of a model, from its configuration alone, and the most that a device can do of them.

Only matrix products count, each product of an (m, k) and a (k, n) matrix as 2·m·n·k operations: a multiplication and
an addition. Norms, activations, rotations, the softmax and the optimizer are left out, as is usual; together they are
a few percent. A backward pass has two products for each one of the forward pass: training costs 3 times the forward.

With h = `hidden_size`, q = `num_attention_heads · head_dim`, kv = `num_key_value_heads · head_dim`,
i = `intermediate_size`, s and t the tokens of one source and its target, a forward pass costs

    encoder layer    s · 2 · (h·q + 2·h·kv + q·h + 3·h·i)   projections, feed-forward
                     4 · q · s²                             scores, and the sum of the values
    decoder layer    the same with t, and for cross-attention
                     t · 2 · (h·q + q·h)                    queries and output
                     s · 2 · 2·h·kv                         keys and values
                     4 · q · t · s                          scores, and the sum of the values
    output           2 · h · vocab_size                     for each labelled position, no others are projected

Padding costs nothing here: what is computed on it is not work that the model asks for. Causal attention counts whole
(t², not half of it), as in the figures that others publish (Chowdhery et al., "PaLM", 2022, appendix B).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from kakehashi.modeling import KakehashiConfig

__all__ = ["ModelFlops", "PeakRate", "Workload", "measure_peak", "peak_rate"]

TRAINING_FACTOR = 3
"""What a forward and a backward pass cost together, in forward passes."""

# Dense bfloat16 with float32 sums, in operations per second, as the makers' data sheets state it. The first name that
# the device's name holds as whole words counts, so longer names stand before shorter ones.
_PEAK_RATES = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 150e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 5090": 210e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "MI300X": 1307e12,
    "MI250X": 383e12,
}
# Chips of the same name that do less, and slices of a chip; what they do is measured.
_LESS = re.compile(r"\b(Laptop|D|MIG)\b")
_MATRIX_SIZE = {"cpu": 1024}
_LARGE_MATRIX_SIZE = 4096
_MEASURED_SECONDS = 0.15

_SOURCE_KEYS_VALUES = re.compile(r"\.cross_attn\.[kv]_proj\.")


@dataclass(frozen=True)
class Workload:
    """What a batch asks of a model, in the six sums that its operations follow from.

    A model of one stack reads everything as source.

    Attributes:
        source_tokens: Σ s over the examples; in packed rows each segment is an example.
        target_tokens: Σ t.
        source_pairs: Σ s², what self-attention in the encoder compares.
        target_pairs: Σ t².
        cross_pairs: Σ s·t.
        labels: Positions that are projected to the vocabulary, or to the classes.
    """

    source_tokens: float = 0
    target_tokens: float = 0
    source_pairs: float = 0
    target_pairs: float = 0
    cross_pairs: float = 0
    labels: float = 0

    def __add__(self, other: Workload) -> Workload:
        return Workload(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> Workload:
        return Workload(*(factor * each for each in astuple(self)))


@dataclass(frozen=True)
class ModelFlops:
    """Floating-point operations of one forward pass, for each unit of a `Workload`."""

    per_source_token: float
    per_target_token: float
    per_source_pair: float
    per_target_pair: float
    per_cross_pair: float
    per_label: float

    def forward(self, work: Workload) -> float:
        """Returns the operations of a forward pass.

        Args:
            work: What the batch asks for.
        """
        return sum(cost * count for cost, count in zip(astuple(self), astuple(work), strict=True))

    def training(self, work: Workload) -> float:
        """Returns the operations of a forward and a backward pass, all parameters being trained.

        Args:
            work: What the batch asks for. What gradient checkpointing computes once more is not counted: it is no work
                that the model asks for.
        """
        return TRAINING_FACTOR * self.forward(work)

    def with_backward(self, model: nn.Module) -> ModelFlops:
        """Returns these costs with those of the backward pass, as far as the model's parameters are trained.

        Of the two products for each one of the forward pass, the one for a frozen weight's gradient is saved, and
        both are below the lowest stack in which a weight is trained. Within a stack the gradient counts as going all
        the way down, which is up to half too much where its lower layers are frozen.

        Args:
            model: What is trained; with adapters, the whole that they are part of.
        """
        encoder: Any = None
        if self.per_target_token:
            encoder = getattr(model, "get_encoder", lambda: None)()
        inside = set() if encoder is None else {id(parameter) for parameter in encoder.parameters()}
        below = [parameter for parameter in model.parameters() if id(parameter) in inside]
        others = [parameter for parameter in model.parameters() if id(parameter) not in inside]
        stack = others if encoder is None else below
        source = _training_factor(stack, is_passed_on=_is_any_trained(stack))
        target = _training_factor(others, is_passed_on=_is_any_trained([*below, *others]))
        # In our models keys and values of the source are made by weights of the decoder, which the gradient goes
        # through only if the encoder is trained.
        crossing = [weight for name, weight in model.named_parameters() if _SOURCE_KEYS_VALUES.search(name)]
        share = 2 * sum(weight.numel() for weight in crossing) / max(1, self.per_source_token)
        crossed = _training_factor(crossing, is_passed_on=_is_any_trained(below))
        # It may share the frozen weights of an embedding.
        head: Any = getattr(model, "get_output_embeddings", lambda: None)()
        label = target if head is None else _training_factor(list(head.parameters()), is_passed_on=target > 1)
        factors = (source + share * (crossed - source), target, source, target, target, label)
        return ModelFlops(*(cost * factor for cost, factor in zip(astuple(self), factors, strict=True)))

    @classmethod
    def of_config(cls, config: KakehashiConfig, output_width: int | None = None) -> ModelFlops:
        """Returns what a kakehashi model costs, in the shape that its configuration has.

        Args:
            config: The model's configuration.
            output_width: Columns of the head: the classes of a classifier, 0 without a head. `None` means
                `vocab_size`.
        """
        # The configuration has filled both in.
        assert config.head_dim is not None
        assert config.num_key_value_heads is not None
        hidden, queries = config.hidden_size, config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        query_output, key_value = 2 * 2 * hidden * queries, 2 * 2 * hidden * keys
        layer = query_output + key_value + 2 * 3 * hidden * config.intermediate_size
        pair = 4 * queries
        head = 2 * hidden * (config.vocab_size if output_width is None else output_width)
        encoders, decoders = config.num_encoder_layers, config.num_decoder_layers
        if config.shape != "encoder-decoder":
            layers = encoders if config.shape == "encoder" else decoders
            return cls(layers * layer, 0, layers * pair, 0, 0, head)
        return cls(
            per_source_token=encoders * layer + decoders * key_value,
            per_target_token=decoders * (layer + query_output),
            per_source_pair=encoders * pair,
            per_target_pair=decoders * pair,
            per_cross_pair=decoders * pair,
            per_label=head,
        )

    @classmethod
    def of_model(cls, model: PreTrainedModel) -> ModelFlops:
        """Returns what a model costs: exactly for ours, by the rule of 6·N operations a token for other families.

        The rule counts every weight matrix but the embeddings once for each token that passes it, so an encoder's
        for source tokens and a decoder's for target tokens; attention's own products are left out.

        Args:
            model: Any model; one on the meta device will do.
        """
        config: Any = model.config
        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        if isinstance(config, KakehashiConfig):
            score = getattr(model, "score", None)
            return cls.of_config(config, None if head is not None else getattr(score, "out_features", 0))
        per_label = 2 * _matrix_entries([head]) if isinstance(head, nn.Module) else 0
        total = 2 * _matrix_entries([model]) - per_label
        if not config.is_encoder_decoder:
            return cls(total, 0, 0, 0, 0, per_label)
        encoder = 2 * _matrix_entries([model.get_encoder()])
        return cls(encoder, total - encoder, 0, 0, 0, per_label)


def _is_any_trained(parameters: Sequence[nn.Parameter]) -> bool:
    return any(parameter.requires_grad for parameter in parameters)


def _training_factor(parameters: Sequence[nn.Parameter], *, is_passed_on: bool) -> float:
    """Returns what forward and backward pass of a stack cost, in forward passes.

    Args:
        parameters: Those of the stack.
        is_passed_on: Whether the gradient goes through the stack, to weights in it or below.
    """
    matrices = [parameter for parameter in parameters if parameter.ndim == 2]
    trained = sum(parameter.numel() for parameter in matrices if parameter.requires_grad)
    return 1 + is_passed_on + trained / max(1, sum(parameter.numel() for parameter in matrices))


def _matrix_entries(modules: Iterable[nn.Module]) -> int:
    """Returns how many weights of the modules stand in matrices that are multiplied; embeddings are looked up."""
    inside = [part for module in modules for part in module.modules() if not isinstance(part, nn.Embedding)]
    return sum(
        parameter.numel() for part in inside for parameter in part.parameters(recurse=False) if parameter.ndim == 2
    )


@dataclass(frozen=True)
class PeakRate:
    """The most that one device can do, which utilisation is a share of.

    Attributes:
        flops_per_second: Operations in a second.
        source: Where the number is from, for whoever reads the utilisation.
    """

    flops_per_second: float
    source: str


def peak_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> PeakRate:
    """Returns the peak of a device: its data sheet's dense bfloat16 rate, or where none is known a measured one.

    Args:
        device: Where the model runs.
        dtype: Number format of the products that are measured; a data sheet's rate is always that of bfloat16.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = next((known for known in _PEAK_RATES if re.search(rf"\b{known}\b", name)), None)
        if known is not None and not _LESS.search(name):
            return PeakRate(_PEAK_RATES[known], f"data sheet, {known}, dense bfloat16")
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    rate = measure_peak(device.type, device.index, dtype, threads)
    where = f"{threads} CPU threads" if device.type == "cpu" else device.type
    return PeakRate(rate, f"measured matrix product, {where}, {str(dtype).removeprefix('torch.')}")


# Once for each device and number of threads in a process: it takes a fifth of a second.
@lru_cache
def measure_peak(device_type: str, index: int | None, dtype: torch.dtype, threads: int) -> float:
    """Returns the operations per second of the best of a few large matrix products.

    No random number is drawn, so a run that measures ends with the weights it would have had.

    Args:
        device_type: Such as `cpu`.
        index: Number of the device; `None` for the current one.
        dtype: Number format of the matrices.
        threads: Threads that take part; only tells one measurement from another.
    """
    device = torch.device(device_type) if index is None else torch.device(device_type, index)
    size = _MATRIX_SIZE.get(device_type, _LARGE_MATRIX_SIZE)
    matrix = torch.full((size, size), 1 / size, dtype=dtype, device=device)
    _seconds_of_product(matrix)
    start = time.perf_counter()
    times = [_seconds_of_product(matrix)]
    while time.perf_counter() - start < _MEASURED_SECONDS and len(times) < 20:
        times.append(_seconds_of_product(matrix))
    return 2 * size**3 / min(times)


def _seconds_of_product(matrix: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        product = torch.mm(matrix, matrix)
    # Reading one number waits for an accelerator.
    product[0, 0].item()
    return time.perf_counter() - start
