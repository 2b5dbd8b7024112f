"""Training and generation speed of kakehashi, T5 v1.1 and BART of equal parameter count, in one process.

    python benchmarks/speed.py --preset mini

Random tokens, since speed does not depend on what they say. The contestants take turns within a round, so that a busy
moment of the machine meets all of them, and the medians of the rounds are printed. With `OMP_WAIT_POLICY=PASSIVE`,
which `make bench` sets, neighbours on the same cores disturb less.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
import typer
from equal_size import bart_like, count_parameters, match_parameters, t5_like
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import (
    BartForConditionalGeneration,
    PreTrainedModel,
    T5ForConditionalGeneration,
)

from kakehashi import KakehashiConfig, KakehashiForConditionalGeneration


@dataclass
class Contestant:
    """A model, its optimizer and what was measured: tokens per second in each round, by task."""

    name: str
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    rates: dict[str, list[float]] = field(default_factory=dict)


def build_contestants(preset: str, vocab_size: int) -> list[Contestant]:
    """Returns kakehashi of a preset and its peers with as many parameters."""
    ours = KakehashiConfig.preset(preset, vocab_size=vocab_size)
    target = count_parameters(KakehashiForConditionalGeneration, ours)
    t5 = match_parameters(T5ForConditionalGeneration, lambda width: t5_like(ours, width), target)
    bart = match_parameters(BartForConditionalGeneration, lambda width: bart_like(ours, width), target)
    models = {
        f"kakehashi {ours.num_encoder_layers}+{ours.num_decoder_layers}": KakehashiForConditionalGeneration(ours),
        f"T5 v1.1 {t5.num_layers}+{t5.num_decoder_layers}": T5ForConditionalGeneration(t5),
        f"BART {bart.encoder_layers}+{bart.decoder_layers}": BartForConditionalGeneration(bart),
    }
    return [Contestant(name, model, torch.optim.AdamW(model.parameters(), 1e-4)) for name, model in models.items()]


def train_once(contestant: Contestant, batch: dict[str, torch.Tensor]) -> int:
    """Takes one optimizer step; returns the source and target tokens it saw."""
    contestant.model.train()
    contestant.model(**batch).loss.backward()
    contestant.optimizer.step()
    contestant.optimizer.zero_grad()
    return batch["input_ids"].numel() + batch["labels"].numel()


def generate_once(contestant: Contestant, source_ids: torch.Tensor, new_tokens: int) -> int:
    """Generates greedily, the same number of tokens for every model; returns how many."""
    contestant.model.eval()
    with torch.inference_mode():
        contestant.model.generate(
            source_ids, do_sample=False, num_beams=1, min_new_tokens=new_tokens, max_new_tokens=new_tokens
        )
    return source_ids.shape[0] * new_tokens


def measure(contestants: list[Contestant], tasks: dict[str, Callable[[Contestant], int]], rounds: int) -> None:
    """Fills in the rates; the first round only warms up."""
    for turn in track(range(rounds + 1), "measuring", console=Console(stderr=True), transient=True):
        for name, task in tasks.items():
            for contestant in contestants:
                start = time.perf_counter()
                tokens = task(contestant)
                if turn:
                    contestant.rates.setdefault(name, []).append(tokens / (time.perf_counter() - start))


def show(contestants: list[Contestant]) -> None:
    """Prints the medians, and below them our ratio to the fastest peer."""
    ours, *peers = contestants
    table = Table(title="tokens per second, median")
    for column in ("model", "parameters", *ours.rates):
        table.add_column(column, justify="left" if column == "model" else "right")
    medians = {
        each.name: {task: statistics.median(rates) for task, rates in each.rates.items()} for each in contestants
    }
    for each in contestants:
        parameters = sum(parameter.numel() for parameter in each.model.parameters())
        table.add_row(each.name, f"{parameters:,}", *(f"{rate:,.0f}" for rate in medians[each.name].values()))
    ratios = [rate / max(medians[peer.name][task] for peer in peers) for task, rate in medians[ours.name].items()]
    table.add_row("kakehashi / fastest peer", "", *(f"{ratio:.2f}" for ratio in ratios))
    Console(width=110).print(table)


def main(
    preset: Annotated[str, typer.Option(help="Kakehashi preset to measure.")] = "mini",
    vocab_size: Annotated[int, typer.Option(help="Entries of the vocabulary.")] = 16_000,
    batch_size: Annotated[int, typer.Option(help="Rows of a training and of a large generation batch.")] = 16,
    length: Annotated[int, typer.Option(help="Tokens of a source, and of a target.")] = 64,
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of torch; 0 takes every core.")] = 0,
) -> None:
    """Measures and prints the table."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.manual_seed(0)
    contestants = build_contestants(preset, vocab_size)
    source, target = torch.randint(8, vocab_size, (2, batch_size, length))
    batch = {"input_ids": source, "attention_mask": torch.ones_like(source), "labels": target}
    tasks: dict[str, Callable[[Contestant], int]] = {
        f"train {batch_size} x ({length}+{length})": lambda each: train_once(each, batch),
        "generate 1 row": lambda each: generate_once(each, source[:1], length),
        f"generate {batch_size} rows": lambda each: generate_once(each, source, length),
    }
    measure(contestants, tasks, rounds)
    show(contestants)


if __name__ == "__main__":
    typer.run(main)
