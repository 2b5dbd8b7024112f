"""Training throughput beside the peers: kakehashi, T5 v1.1, BART, Marian and T5Gemma of equal parameter count.

    python benchmarks/train_throughput.py train.tsv.xz --tokenizer runs/tokenizer --preset mini --compile

All of them learn from the same sentence pairs, in one process and in turns, so that a busy moment of the machine meets
every one. A step is forward, backward and AdamW; what counts are real tokens, source and target, padding left out.

    batches   what they are
    random    the pairs as they come, padded to the longest: what a plain Trainer with DataCollatorForSeq2Seq does
    grouped   pairs of about equal length together (`group_by_length`), padded to the longest
    packed    several pairs in a row, kept apart by segment ids: only kakehashi can

With `--compile` each model runs compiled as well (`torch.compile`), on those of its batches that suit it best: packed
for kakehashi, grouped for the peers. What compiling takes, some minutes for each, is not counted.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from equal_size import PEERS, count_parameters, match_parameters
from rich.console import Console
from rich.progress import track
from transformers import AutoTokenizer, PreTrainedModel

from kakehashi import KakehashiConfig, KakehashiForConditionalGeneration
from kakehashi.training.collators import Seq2SeqCollator
from kakehashi.training.documents import load_rows
from kakehashi.training.examples import InstructionColumns, tokenize_instructions
from kakehashi.training.packing import measure_sequences, pack_examples
from kakehashi.training.trainer import LengthGroupedSampler, example_lengths

Batch = dict[str, torch.Tensor]
COLUMNS = InstructionColumns(
    source_template=("Translate to Japanese: {en}", "Translate to English: {ja}"), target_template=("{ja}", "{en}")
)
MAX_LENGTH = 128
ROW_LENGTH = 256
ROWS_READ = 20_000


@dataclass
class Contestant:
    """A model on one kind of batches, in one precision, and its rates.

    Attributes:
        name: Name of the model.
        kind: Kind of its batches.
        dtype: What it computes in.
        model: The model.
        forward: The model itself, or compiled.
        optimizer: Its optimizer, shared with the other kinds of batches.
        batches: What it learns from, in turns.
        rates: Real tokens per second of each measured round.
    """

    name: str
    kind: str
    dtype: torch.dtype
    model: PreTrainedModel
    forward: Callable[..., Any]
    optimizer: torch.optim.Optimizer
    batches: list[Batch]
    rates: list[float] = field(default_factory=list)

    @property
    def is_compiled(self) -> bool:
        """Whether the model runs compiled."""
        return self.forward is not self.model


def make_batches(train_file: Path, tokenizer_dir: Path, batch_size: int, count: int) -> tuple[dict[str, Any], int]:
    """Returns so many batches of each kind, of about as many tokens, and the entries of the vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    rows = load_rows(str(train_file))
    rows = rows.shuffle(seed=0).select(range(min(ROWS_READ, len(rows))))
    examples = tokenize_instructions(
        rows, tokenizer, columns=COLUMNS, max_source_length=MAX_LENGTH, max_target_length=MAX_LENGTH
    )
    packed = pack_examples(examples, measure_sequences("input_ids", "labels"), ROW_LENGTH).rows
    per_row = len(examples) / len(packed)
    orders = {
        "random": (examples, np.random.default_rng(0).permutation(len(examples)), batch_size),
        "grouped": (
            examples,
            np.array(list(LengthGroupedSampler(example_lengths(examples), batch_size, 0, lambda: 0))),
            batch_size,
        ),
        "packed": (packed, np.random.default_rng(0).permutation(len(packed)), max(1, round(batch_size / per_row))),
    }
    collate = Seq2SeqCollator(tokenizer)
    batches = {
        kind: [collate(list(data.select(order[start * size : (start + 1) * size]))) for start in range(count)]
        for kind, (data, order, size) in orders.items()
    }
    return batches, len(tokenizer)


def count_tokens(batch: Batch) -> int:
    """Source and target tokens of a batch, padding left out."""
    mask = batch["attention_mask"] if "attention_mask" in batch else batch["segment_ids"]
    return int((mask > 0).sum() + (batch["labels"] != -100).sum())


def build_models(preset: str, vocab_size: int) -> dict[str, PreTrainedModel]:
    """Kakehashi of a preset, as the stages train it on packed rows, and its peers with as many parameters."""
    ours = KakehashiConfig.preset(preset, vocab_size=vocab_size)
    target = count_parameters(KakehashiForConditionalGeneration, ours)
    models: dict[str, PreTrainedModel] = {"kakehashi": KakehashiForConditionalGeneration(ours)}
    models["kakehashi"].set_attn_implementation("varlen")
    for name, (model_class, configure) in PEERS.items():
        config = match_parameters(model_class, lambda width, configure=configure: configure(ours, width), target)
        models[name] = model_class(config)
    return {name: model.train() for name, model in models.items()}


def step(contestant: Contestant, batch: Batch) -> None:
    """Forward, backward and optimizer."""
    device_type = contestant.model.device.type
    with torch.autocast(device_type, contestant.dtype, enabled=contestant.dtype != torch.float32):
        loss = contestant.forward(**batch).loss
    loss.backward()
    contestant.optimizer.step()
    contestant.optimizer.zero_grad()
    if device_type == "cuda":
        torch.cuda.synchronize()


def run_round(contestant: Contestant) -> float:
    """Takes a step with each batch; returns real tokens per second."""
    tokens = sum(count_tokens(batch) for batch in contestant.batches)
    start = time.perf_counter()
    for batch in contestant.batches:
        step(contestant, batch)
    return tokens / (time.perf_counter() - start)


def show(contestants: list[Contestant]) -> None:
    """Prints the medians as a table, and our best beside the best of the peers."""
    print("| model | parameters | batches | precision | | tokens/s |")
    print("|---|---:|---|---|---|---:|")
    for each in contestants:
        parameters = f"{each.model.num_parameters():,}"
        precision = str(each.dtype).removeprefix("torch.")
        rate = statistics.median(each.rates)
        mode = "compiled" if each.is_compiled else "eager"
        print(f"| {each.name} | {parameters} | {each.kind} | {precision} | {mode} | {rate:,.0f} |")
    for is_compiled in sorted({each.is_compiled for each in contestants}):
        for kinds in (("random",), ("random", "grouped")):
            rivals = [each for each in contestants if is_compiled or not each.is_compiled]
            ours = max(statistics.median(each.rates) for each in rivals if each.name == "kakehashi")
            peers = [each for each in rivals if each.name != "kakehashi" and each.kind in kinds]
            best = max(peers, key=lambda each: statistics.median(each.rates))
            mode = "eager or compiled" if is_compiled else "eager"
            ratio = ours / statistics.median(best.rates)
            print(f"\nkakehashi / best peer, {mode}, {' or '.join(kinds)} batches ({best.name}): {ratio:.2f}")


def main(
    train_file: Annotated[Path, typer.Argument(help="Pairs with the columns en and ja.")],
    tokenizer: Annotated[Path, typer.Option(help="Tokenizer folder.")],
    preset: Annotated[str, typer.Option(help="Kakehashi preset to measure.")] = "mini",
    batch_size: Annotated[int, typer.Option(help="Pairs of a batch.")] = 64,
    batches: Annotated[int, typer.Option(help="Batches of each kind in a round.")] = 4,
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of torch; 0 takes every core.")] = 0,
    compile_models: Annotated[bool, typer.Option("--compile", help="Run compiled models as well.")] = False,
) -> None:
    """Measures and prints the table."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.manual_seed(0)
    drawn, vocab_size = make_batches(train_file, tokenizer, batch_size, batches)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    contestants = []
    for name, model in build_models(preset, vocab_size).items():
        model.to(device)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
        for kind, each in drawn.items():
            if kind == "packed" and name != "kakehashi":
                continue
            moved = [{key: value.to(device) for key, value in batch.items()} for batch in each]
            suits_best = kind == ("packed" if name == "kakehashi" else "grouped")
            for dtype in (torch.float32, torch.bfloat16):
                contestants.append(Contestant(name, kind, dtype, model, model, optimizer, moved))
                if compile_models and suits_best:
                    compiled = torch.compile(model)
                    contestants.append(Contestant(name, kind, dtype, model, compiled, optimizer, moved))
    console = Console(stderr=True)
    start = time.perf_counter()
    for contestant in track(contestants, "warming up", console=console, transient=True):
        run_round(contestant)
    console.print(f"warmed up in {time.perf_counter() - start:.0f} s")
    for _ in track(range(rounds), "measuring", console=console, transient=True):
        for contestant in contestants:
            contestant.rates.append(run_round(contestant))
    show(contestants)


if __name__ == "__main__":
    typer.run(main)
