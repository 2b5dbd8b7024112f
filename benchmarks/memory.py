"""What training takes of a device's memory: computed for every preset, measured on the processor for small ones.

    python benchmarks/memory.py
    python benchmarks/memory.py --measure nano --measure mini

The first prints the tables of docs/scaling.md. The second trains three steps for each line in a process of its own, in
float32, and compares the growth of its resident memory at its peak with what is computed for the same step.
"""

import os
import resource
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import torch
import typer

from kakehashi import KakehashiConfig, KakehashiForConditionalGeneration
from kakehashi.modeling.configuration_kakehashi import PRESETS
from kakehashi.training.memory import MemoryEstimate, estimate_memory, model_on_meta
from kakehashi.training.optimizer import MuonAdamW

GB = 1e9
# `ru_maxrss` is in KiB on Linux and in bytes on macOS.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a Markdown table whose first column is text."""
    typer.echo(f"| {' | '.join(head)} |")
    typer.echo(f"|---|{'---:|' * (len(head) - 1)}")
    for row in rows:
        typer.echo(f"| {' | '.join(row)} |")


def show(number_of_bytes: float | None) -> str:
    """Returns bytes as GB with as many digits as say something."""
    value = (number_of_bytes or 0.0) / GB
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def compute(preset: str, vocab_size: int, tokens: int, **settings: Any) -> MemoryEstimate:
    """Returns the estimate for so many source and as many target tokens on each device."""
    model = model_on_meta(KakehashiConfig.preset(preset, vocab_size=vocab_size))
    return estimate_memory(model, source_tokens=tokens, target_tokens=tokens, **settings)


def state_row(preset: str, vocab_size: int, tokens: int) -> list[str]:
    """One line on what the parameters and the optimizer take, and on the activations."""
    model = model_on_meta(KakehashiConfig.preset(preset, vocab_size=vocab_size))
    adamw, muon, checkpointed = (
        compute(preset, vocab_size, tokens, **settings)
        for settings in ({}, {"use_muon": True}, {"gradient_checkpointing": True})
    )
    sizes = [adamw.weights, adamw.gradients, adamw.optimizer, muon.optimizer, adamw.activations]
    return [preset, f"{model.num_parameters() / 1e6:.1f}", *map(show, sizes), show(checkpointed.activations)]


def total_row(preset: str, vocab_size: int, tokens: int) -> list[str]:
    """One line on what a whole training step takes on one device, alone and among several."""
    totals = [
        compute(
            preset, vocab_size, tokens, use_muon=use_muon, gradient_checkpointing=checkpointed, shards=shards
        ).total
        for shards in (1, 8, 16)
        for use_muon, checkpointed in ((False, False), (True, True))
    ]
    return [preset, *map(show, totals)]


def measure(preset: str, vocab_size: int, tokens: int, use_muon: bool, checkpointed: bool) -> float:
    """Returns the bytes by which three steps let the resident memory of a fresh process grow."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        train(preset, vocab_size, tokens, use_muon, checkpointed)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writer, str(grown * RSS_UNIT).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        return float(stream.read())


def train(preset: str, vocab_size: int, tokens: int, use_muon: bool, checkpointed: bool) -> None:
    """Trains three steps on rows of 64 random tokens."""
    torch.manual_seed(0)
    model = KakehashiForConditionalGeneration(KakehashiConfig.preset(preset, vocab_size=vocab_size)).train()
    if checkpointed:
        model.gradient_checkpointing_enable()
    optimizer = MuonAdamW(model, 1e-3) if use_muon else torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    ids = torch.randint(4, vocab_size, (tokens // 64, 64))
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def measured_rows(preset: str, vocab_size: int, tokens: int) -> list[list[str]]:
    """Lines for both optimizers, with and without checkpointing."""
    rows = []
    for use_muon, checkpointed in ((False, False), (False, True), (True, False)):
        settings = {"use_muon": use_muon, "gradient_checkpointing": checkpointed}
        computed = compute(preset, vocab_size, tokens, bf16=False, device_type="cpu", **settings).total
        found = measure(preset, vocab_size, tokens, use_muon, checkpointed)
        name = f"{preset}, {'Muon' if use_muon else 'AdamW'}{', checkpointing' if checkpointed else ''}"
        rows.append([name, show(computed), show(found), f"{found / computed:.2f}"])
    return rows


def main(
    presets: Annotated[list[str], typer.Option("--measure", help="Preset to measure; may be given again.")] = [],  # noqa: B006
    vocab_size: Annotated[int, typer.Option(help="Entries of the vocabulary.")] = 32_000,
    tokens: Annotated[int | None, typer.Option(help="Source tokens, and as many target tokens, on a device.")] = None,
) -> None:
    """Print what training takes, computed, or beside it what it took."""
    if presets:
        torch.set_num_threads(1)
        rows = [row for preset in presets for row in measured_rows(preset, vocab_size, tokens or 2048)]
        print_table(["float32, in GB", "computed", "measured", "ratio"], rows)
        return
    tokens = tokens or 16_384
    head = ["preset", "parameters (M)", "weights", "gradients", "AdamW", "Muon + AdamW", "activations", "checkpointed"]
    print_table(head, [state_row(preset, vocab_size, tokens) for preset in PRESETS])
    typer.echo()
    columns = [
        f"{count} GPU{'s' * (count > 1)}, {how}" for count in (1, 8, 16) for how in ("AdamW", "Muon, checkpointed")
    ]
    print_table(["preset", *columns], [total_row(preset, vocab_size, tokens) for preset in PRESETS])


if __name__ == "__main__":
    typer.run(main)
