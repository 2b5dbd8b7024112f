"""What each choice of the architecture gains in speed: kakehashi beside itself with that choice undone, in one run.

    python benchmarks/architecture.py --preset mini

Random tokens in examples of random length. The two of a pair take turns, so that a busy moment of the machine meets
both, and the medians of their rounds are compared.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from equal_size import count_parameters, match_parameters
from rich.console import Console
from rich.progress import track

from kakehashi import KakehashiConfig, KakehashiForConditionalGeneration

Task = Callable[[], int]


@dataclass
class Choice:
    """A choice, its alternative, and the tokens per second of both in each round."""

    name: str
    ours: Task
    other: Task
    rates: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))


def training_task(model: KakehashiForConditionalGeneration, batch: dict[str, torch.Tensor], tokens: int) -> Task:
    """A forward and a backward pass that counts the real tokens it saw."""

    def step() -> int:
        model.train()
        model(**batch).loss.backward()
        model.zero_grad()
        return tokens

    return step


def generation_task(model: KakehashiForConditionalGeneration, source: torch.Tensor, new_tokens: int) -> Task:
    """Greedy generation of a fixed number of tokens."""

    def generate() -> int:
        model.eval()
        with torch.inference_mode():
            model.generate(source, do_sample=False, min_new_tokens=new_tokens, max_new_tokens=new_tokens)
        return source.shape[0] * new_tokens

    return generate


def build(
    preset: str, vocab_size: int, attention: str = "sdpa", **overrides: Any
) -> KakehashiForConditionalGeneration:
    """A model of the preset with fields overridden; the feed-forward width makes up for the parameters they cost."""
    plain = KakehashiConfig.preset(preset, vocab_size=vocab_size)
    config = plain
    if overrides:
        target = count_parameters(KakehashiForConditionalGeneration, plain)
        config = match_parameters(
            KakehashiForConditionalGeneration,
            lambda width: KakehashiConfig.preset(
                preset, vocab_size=vocab_size, **{**overrides, "intermediate_size": width}
            ),
            target,
        )
    model = KakehashiForConditionalGeneration(config)
    model.set_attn_implementation(attention)
    return model


def draw_examples(count: int, length: int, vocab_size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Sources and targets of `length / 4` to `length` tokens, as uneven as sentences are."""
    lengths = torch.randint(length // 4, length + 1, (count, 2)).tolist()
    return [(torch.randint(8, vocab_size, (s,)), torch.randint(8, vocab_size, (t,))) for s, t in lengths]


def pad_examples(examples: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One row for each example, filled up to the longest."""
    source = torch.nn.utils.rnn.pad_sequence([pair[0] for pair in examples], batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence([pair[1] for pair in examples], batch_first=True, padding_value=-100)
    return {"input_ids": source, "attention_mask": (source != 0).long(), "labels": labels}


def pack_examples(examples: list[tuple[torch.Tensor, torch.Tensor]], rows: int) -> dict[str, torch.Tensor]:
    """The same examples in a few rows: each goes to the row that holds the fewest tokens."""
    packed: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(rows)]
    for example in sorted(examples, key=lambda pair: -len(pair[0]) - len(pair[1])):
        min(packed, key=lambda row: sum(len(s) + len(t) for s, t in row)).append(example)
    columns: dict[str, torch.Tensor] = {}
    for name, side, fill in (("input_ids", 0, 0), ("labels", 1, -100)):
        ids = [torch.cat([pair[side] for pair in row]) for row in packed]
        segments = [torch.cat([torch.full_like(pair[side], n) for n, pair in enumerate(row, 1)]) for row in packed]
        columns[name] = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=fill)
        prefix = "decoder_" if side else ""
        columns[f"{prefix}segment_ids"] = torch.nn.utils.rnn.pad_sequence(segments, batch_first=True)
    return columns


def project_everything(model: KakehashiForConditionalGeneration, batch: dict[str, torch.Tensor], tokens: int) -> Task:
    """The training step of a model that projects padding to the vocabulary, too."""

    def step() -> int:
        model.train()
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        decoder_input_ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        logits = model(**inputs, decoder_input_ids=decoder_input_ids).logits
        F.cross_entropy(logits.flatten(0, 1).float(), batch["labels"].flatten()).backward()
        model.zero_grad()
        return tokens

    return step


def choices(preset: str, vocab_size: int, count: int, length: int) -> list[Choice]:
    """Every choice with its alternative, at equal parameter count."""
    examples = draw_examples(count, length, vocab_size)
    tokens = sum(len(source) + len(target) for source, target in examples)
    padded, packed = pad_examples(examples), pack_examples(examples, max(1, count // 4))
    model = build(preset, vocab_size)
    layers = (model.config.num_encoder_layers + model.config.num_decoder_layers) // 2
    even = build(preset, vocab_size, num_encoder_layers=layers, num_decoder_layers=layers)
    full_heads = build(preset, vocab_size, num_key_value_heads=model.config.num_attention_heads)
    one, many = padded["input_ids"][:1, : length // 4], padded["input_ids"][:, : length // 4]
    plain = training_task(model, padded, tokens)
    result = [
        Choice(
            f"shallow decoder ({model.config.num_encoder_layers}+{model.config.num_decoder_layers} layers, not "
            f"{layers}+{layers}): generate 1 row",
            generation_task(model, one, length),
            generation_task(even, one, length),
        ),
        Choice(
            f"the same: generate {count} rows",
            generation_task(model, many, length),
            generation_task(even, many, length),
        ),
        Choice("the same: train", plain, training_task(even, padded, tokens)),
        Choice(
            f"grouped-query attention ({model.config.num_key_value_heads} key heads, not "
            f"{model.config.num_attention_heads}): generate {count} rows",
            generation_task(model, many, length),
            generation_task(full_heads, many, length),
        ),
        Choice("project only positions with a label: train", plain, project_everything(model, padded, tokens)),
        Choice("packed rows, not padded ones: train", training_task(model, packed, tokens), plain),
        Choice(
            "packed rows without masks (varlen), not padded ones: train",
            training_task(build(preset, vocab_size, "varlen"), packed, tokens),
            plain,
        ),
    ]
    for positions in ("relative_bias", "learned", "sinusoidal"):
        other = build(preset, vocab_size, position_embedding_type=positions)
        result.append(Choice(f"rotary positions, not {positions}: train", plain, training_task(other, padded, tokens)))
    return result


def main(
    preset: Annotated[str, typer.Option(help="Kakehashi preset to measure.")] = "mini",
    vocab_size: Annotated[int, typer.Option(help="Entries of the vocabulary.")] = 16_000,
    examples: Annotated[int, typer.Option(help="Examples of a training batch, rows of a large generation.")] = 32,
    length: Annotated[int, typer.Option(help="Tokens of the longest source and target.")] = 64,
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of torch; 0 takes every core.")] = 0,
) -> None:
    """Measures every pair and prints a table."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.manual_seed(0)
    measured = choices(preset, vocab_size, examples, length)
    # The first round only warms up.
    for turn in track(range(rounds + 1), "measuring", console=Console(stderr=True), transient=True):
        for choice in measured:
            for task, rates in zip((choice.ours, choice.other), choice.rates, strict=True):
                start = time.perf_counter()
                tokens = task()
                if turn:
                    rates.append(tokens / (time.perf_counter() - start))
    lines = ["| choice | tokens/s | undone | ratio |", "|---|---:|---:|---:|"]
    for choice in measured:
        ours, other = (statistics.median(rates) for rates in choice.rates)
        lines.append(f"| {choice.name} | {ours:,.0f} | {other:,.0f} | {ours / other:.2f} |")
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
