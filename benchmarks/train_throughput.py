"""Training throughput beside the peers: kakehashi, T5 v1.1, BART, Marian and T5Gemma of equal parameter count.

    python benchmarks/train_throughput.py train.tsv.xz --tokenizer runs/tokenizer --preset mini --compile model

All of them learn from the same sentence pairs, in one process and in turns, so that a busy moment of the machine meets
every one. No batch comes twice, as in training: what has been computed once may be faster the second time, because
oneDNN keeps a kernel for each shape that it has met. A step is forward, backward and AdamW; what counts are real
tokens, source and target, padding left out, and the share that the operations they ask for are of what the device can
do at its peak (MFU, see `training/flops.py`; of the peers by the rule of six operations for each weight and token).

    batches   what they are
    random    the pairs as they come, padded to the longest: what a plain Trainer with DataCollatorForSeq2Seq does
    grouped   pairs of about equal length together (`group_by_length`), padded to the longest
    packed    several pairs in a row, kept apart by segment ids: only kakehashi can

With `--compile` models run compiled as well, on those of their batches that suit them best: packed for kakehashi,
grouped for the peers; as one (`model`, which takes some minutes for each) or layer by layer (`layers`, as
`compile_layers: true` in a recipe). The time of compiling is not counted. `--compile-only`, `--model` and
`--precision` leave others out, where time is short. What does not fit into the memory of an accelerator is listed.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch._dynamo
import typer
from equal_size import PEERS, count_parameters, match_parameters
from rich.console import Console
from rich.progress import track
from transformers import AutoTokenizer, PreTrainedModel

from kakehashi import KakehashiConfig, KakehashiForConditionalGeneration
from kakehashi.training.collators import Seq2SeqCollator
from kakehashi.training.compilation import compile_layers
from kakehashi.training.documents import load_rows
from kakehashi.training.examples import InstructionColumns, tokenize_instructions
from kakehashi.training.flops import ModelFlops, Workload, peak_rate
from kakehashi.training.packing import measure_sequences, pack_examples
from kakehashi.training.throughput import count_batch
from kakehashi.training.trainer import LengthGroupedSampler, example_lengths

Batch = dict[str, torch.Tensor]
COLUMNS = InstructionColumns(
    source_template=("Translate to Japanese: {en}", "Translate to English: {ja}"), target_template=("{ja}", "{en}")
)
OURS = "kakehashi"
MAX_LENGTH = 128
ROW_LENGTH = 256
ROWS_READ = 20_000
# Times that a function may be compiled anew, for another length or precision, before it runs as it is. Models of many
# layers reach torch's own limit of 8.
RECOMPILATIONS = 64
# Only in the second round does the compiler know which sizes change.
WARM_UP = 2


class Compilation(str, Enum):
    """What is compiled by itself."""

    model = "model"
    layers = "layers"


class Precision(str, Enum):
    """What a step computes in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass
class Contestant:
    """A model on one kind of batches, in one precision, and its rates.

    Attributes:
        name: Name of the model.
        kind: Kind of its batches.
        dtype: What it computes in.
        model: The model.
        forward: The model itself, or what runs it compiled.
        optimizer: Its optimizer, shared with the other kinds of batches.
        rounds: The batches of each round; the first `WARM_UP` are not measured.
        is_compiled: Whether the model or its layers are compiled.
        seconds: Time of each measured round.
    """

    name: str
    kind: str
    dtype: torch.dtype
    model: PreTrainedModel
    forward: Callable[..., Any]
    optimizer: torch.optim.Optimizer
    rounds: list[list[Batch]]
    is_compiled: bool = False
    seconds: list[float] = field(default_factory=list)

    @cached_property
    def work(self) -> list[Workload]:
        """What the batches of each measured round ask for."""
        counts = [
            sum(count_batch(batch, is_encoder_decoder=True, is_generator=True) for batch in batches)
            for batches in self.rounds[WARM_UP:]
        ]
        return [Workload(*each.tolist()[1:]) for each in counts]

    @property
    def rate(self) -> float:
        """Real tokens per second, source and target, in the median round."""
        return self._median(lambda work: work.source_tokens + work.target_tokens)

    @property
    def flops_per_second(self) -> float:
        """Operations per second that the real tokens ask for, in the median round."""
        return self._median(ModelFlops.of_model(self.model).training)

    def _median(self, measure: Callable[[Workload], float]) -> float:
        return statistics.median(
            measure(work) / seconds for work, seconds in zip(self.work, self.seconds, strict=True)
        )


def make_batches(train_file: Path, tokenizer_dir: Path, batch_size: int, count: int) -> tuple[dict[str, Any], int]:
    """Returns so many batches of each kind, of about as many tokens, and the entries of the vocabulary.

    Raises:
        typer.BadParameter: If there are too few pairs for them.
    """
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    rows = load_rows(str(train_file))
    rows = rows.shuffle(seed=0).select(range(min(max(ROWS_READ, count * batch_size), len(rows))))
    examples = tokenize_instructions(
        rows, tokenizer, columns=COLUMNS, max_source_length=MAX_LENGTH, max_target_length=MAX_LENGTH
    )
    # Some more than they hold, because a packed batch is rounded to whole rows.
    needed = 1.1 * count * batch_size
    if len(examples) < needed:
        raise typer.BadParameter(
            f"{count} batches of {batch_size} need {needed:,.0f} examples, but {train_file} has {len(examples):,}: "
            "ask for fewer `--batches` or `--rounds`"
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


def build_model(name: str, preset: str, vocab_size: int) -> PreTrainedModel:
    """Kakehashi of a preset, as the stages train it on packed rows, or a peer with as many parameters."""
    ours = KakehashiConfig.preset(preset, vocab_size=vocab_size)
    if name == OURS:
        model: PreTrainedModel = KakehashiForConditionalGeneration(ours)
        model.set_attn_implementation("varlen")
        return model.train()
    model_class, configure = PEERS[name]
    target = count_parameters(KakehashiForConditionalGeneration, ours)
    return model_class(match_parameters(model_class, lambda width: configure(ours, width), target)).train()


def step(contestant: Contestant, batch: Batch) -> None:
    """Forward, backward and optimizer."""
    device_type = contestant.model.device.type
    with torch.autocast(device_type, contestant.dtype, enabled=contestant.dtype != torch.float32):
        loss = contestant.forward(**batch).loss
    loss.backward()
    contestant.optimizer.step()
    contestant.optimizer.zero_grad()


def run_round(contestant: Contestant, number: int) -> float:
    """Takes a step with each batch of a round; returns the seconds."""
    start = time.perf_counter()
    for batch in contestant.rounds[number]:
        step(contestant, batch)
    if contestant.model.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start


def show(contestants: list[Contestant]) -> None:
    """Prints the medians as a table, and our best beside the best of the peers."""
    print("| model | parameters | batches | precision | | tokens/s | MFU |")
    print("|---|---:|---|---|---|---:|---:|")
    peaks = [peak_rate(each.model.device, each.dtype) for each in contestants]
    for each, peak in zip(contestants, peaks, strict=True):
        parameters = f"{each.model.num_parameters():,}"
        precision = str(each.dtype).removeprefix("torch.")
        mode = "compiled" if each.is_compiled else "eager"
        share = each.flops_per_second / peak.flops_per_second
        print(f"| {each.name} | {parameters} | {each.kind} | {precision} | {mode} | {each.rate:,.0f} | {share:.1%} |")
    for peak in dict.fromkeys(peaks):
        print(f"\npeak for MFU: {peak.flops_per_second / 1e12:,.2f} TFLOP/s ({peak.source})")
    for is_compiled in sorted({each.is_compiled for each in contestants}):
        for kinds in (("random",), ("random", "grouped")):
            rivals = [each for each in contestants if is_compiled or not each.is_compiled]
            ours = max((each for each in rivals if each.name == OURS), key=lambda each: each.rate, default=None)
            peers = [each for each in rivals if each.name != OURS and each.kind in kinds]
            if ours is None or not peers:
                continue
            best = max(peers, key=lambda each: each.rate)
            mode = "eager or compiled" if is_compiled else "eager"
            ratio = ours.rate / best.rate
            print(f"\nkakehashi / best peer, {mode}, {' or '.join(kinds)} batches ({best.name}): {ratio:.2f}")


def main(
    train_file: Annotated[Path, typer.Argument(help="Pairs with the columns en and ja.")],
    tokenizer: Annotated[Path, typer.Option(help="Tokenizer folder.")],
    preset: Annotated[str, typer.Option(help="Kakehashi preset to measure.")] = "mini",
    batch_size: Annotated[int, typer.Option(help="Pairs of a batch.")] = 64,
    batches: Annotated[int, typer.Option(help="Batches of each kind in a round.")] = 4,
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of torch; 0 takes every core.")] = 0,
    compilation: Annotated[Compilation | None, typer.Option("--compile", help="Run models compiled as well.")] = None,
    compiled_names: Annotated[
        list[str] | None, typer.Option("--compile-only", help="Compile only this model; may be repeated.")
    ] = None,
    model_names: Annotated[list[str] | None, typer.Option("--model", help="Only this model; may be repeated.")] = None,
    precisions: Annotated[
        list[Precision] | None, typer.Option("--precision", help="Only this precision; may be repeated.")
    ] = None,
) -> None:
    """Measures and prints the table."""
    for name in (*(model_names or ()), *(compiled_names or ())):
        if name not in (OURS, *PEERS):
            raise typer.BadParameter(f"a model must be one of {', '.join((OURS, *PEERS))}, got {name!r}")
    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.manual_seed(0)
    if compilation is not None:
        torch._dynamo.config.recompile_limit = RECOMPILATIONS
    drawn, vocab_size = make_batches(train_file, tokenizer, batch_size, batches * (WARM_UP + rounds))
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    moved = {
        kind: [
            [{key: value.to(device) for key, value in batch.items()} for batch in each[start : start + batches]]
            for start in range(0, len(each), batches)
        ]
        for kind, each in drawn.items()
    }
    contestants = []
    for name in model_names or [OURS, *PEERS]:
        suited = "packed" if name == OURS else "grouped"
        compiles = compilation is not None and name in (compiled_names or [OURS, *PEERS])
        for is_compiled in (False, True) if compiles else (False,):
            model: Any = build_model(name, preset, vocab_size).to(device)
            forward = model
            if is_compiled and compilation is Compilation.layers:
                compile_layers(model)
            elif is_compiled:
                forward = torch.compile(model)
            optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
            kinds = [suited] if is_compiled else [kind for kind in moved if kind != "packed" or name == OURS]
            for kind, precision in product(kinds, precisions or list(Precision)):
                dtype = getattr(torch, precision.value)
                contestants.append(Contestant(name, kind, dtype, model, forward, optimizer, moved[kind], is_compiled))
    console = Console(stderr=True)
    start = time.perf_counter()
    fitting = []
    for contestant in track(contestants, "warming up", console=console, transient=True):
        try:
            for number in range(WARM_UP):
                run_round(contestant, number)
            fitting.append(contestant)
        except torch.OutOfMemoryError:
            contestant.optimizer.zero_grad()
            torch.accelerator.empty_cache()
            print(f"does not fit: {contestant.name}, {contestant.kind}, {contestant.dtype}")
    contestants = fitting
    console.print(f"warmed up in {time.perf_counter() - start:.0f} s")
    for number in track(range(rounds), "measuring", console=console, transient=True):
        for contestant in contestants:
            contestant.seconds.append(run_round(contestant, WARM_UP + number))
    show(contestants)


if __name__ == "__main__":
    typer.run(main)
