"""What helps learning in equal time: one choice of the recipe at a time, three seeds each, on sentence pairs.

    python benchmarks/ablations.py train.tsv.xz valid.tsv.xz --tokenizer runs/tokenizer --output runs/ablations.jsonl
    python benchmarks/ablations.py … --only baseline --only "AdamW 2e-3"

Each variant gets as many steps as fit into the same processor time, measured beforehand in turns on one thread, so
that a busy machine changes neither their number nor the result. Every run is one line of the output; runs that are
there already are not repeated. The table at the end has mean and standard deviation over the seeds.
"""

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from datasets import Dataset
from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, RandomSampler
from transformers import AutoTokenizer, get_scheduler, set_seed

from kakehashi import KakehashiConfig, KakehashiForConditionalGeneration
from kakehashi.training.bfloat16 import computes_bfloat16
from kakehashi.training.collators import Seq2SeqCollator
from kakehashi.training.console import notify
from kakehashi.training.documents import load_rows
from kakehashi.training.evaluation import Questions, evaluate_generation
from kakehashi.training.examples import InstructionColumns, tokenize_instructions
from kakehashi.training.instruction_rows import read_conversations
from kakehashi.training.optimizer import MuonAdamW, split_parameters
from kakehashi.training.packing import measure_sequences, pack_examples
from kakehashi.training.trainer import LengthGroupedSampler, example_lengths

COLUMNS = InstructionColumns(
    source_template=("Translate to Japanese: {en}", "Translate to English: {ja}"), target_template=("{ja}", "{en}")
)
TIMED_STEPS = 24
MAX_LENGTH = 128
ROW_LENGTH = 256


@dataclass(frozen=True)
class Variant:
    """A way to train; every default is the baseline's.

    Attributes:
        muon: Muon for matrices and AdamW for the rest; otherwise AdamW alone.
        rate: Learning rate.
        decay: Weight decay.
        ns_steps: Newton-Schulz steps of Muon.
        cautious: Cautious weight decay.
        schedule: Learning rate schedule of Transformers.
        rows: Packed rows of a step.
        first_rows: Rows of the first step, from where they grow linearly to `rows` in the first half; None: no growth.
        packed: Whether examples are packed; otherwise batches are of about equal length and as many tokens.
        ema: Decay of an average of the weights, which is then what is measured; None for none.
        config: Fields of the configuration.
    """

    muon: bool = True
    rate: float = 1e-2
    decay: float = 0.1
    ns_steps: int = 5
    cautious: bool = False
    schedule: str = "cosine"
    rows: int = 4
    first_rows: int | None = None
    packed: bool = True
    ema: float | None = None
    config: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "baseline": Variant(),
    "AdamW 2e-3": Variant(muon=False, rate=2e-3, decay=0.01),
    "AdamW 4e-3": Variant(muon=False, rate=4e-3, decay=0.01),
    "learning rate 2e-2": Variant(rate=2e-2),
    "3 Newton-Schulz steps": Variant(ns_steps=3),
    "linear schedule": Variant(schedule="linear"),
    "warmup-stable-decay": Variant(schedule="warmup_stable_decay"),
    "cautious weight decay": Variant(cautious=True),
    "no weight decay": Variant(decay=0.0),
    "8 rows a step": Variant(rows=8),
    "rows growing 1 to 6": Variant(rows=6, first_rows=1),
    "average of weights, 0.99": Variant(ema=0.99),
    "z-loss 1e-4": Variant(config={"z_loss_weight": 1e-4}),
    "not packed": Variant(packed=False),
}


@dataclass
class Data:
    """What every run reads.

    Attributes:
        tokenizer: The vocabulary.
        examples: Pairs as ids.
        packed: The same in rows.
        validation: Held-out pairs as ids.
        questions: Held-out pairs as text.
    """

    tokenizer: Any
    examples: Dataset
    packed: Dataset
    validation: Dataset
    questions: Questions


def read_data(train_file: Path, validation_file: Path, tokenizer_dir: Path, validation_rows: int) -> Data:
    """Tokenizes and packs, or finds it done."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    lengths: dict[str, Any] = {"max_source_length": MAX_LENGTH, "max_target_length": MAX_LENGTH}
    examples = tokenize_instructions(load_rows(str(train_file)), tokenizer, columns=COLUMNS, **lengths)
    held_out = load_rows(str(validation_file)).select(range(validation_rows))
    pairs = [pair for index, row in enumerate(held_out) for pair in read_conversations(row, COLUMNS, index)]
    return Data(
        tokenizer,
        examples,
        pack_examples(examples, measure_sequences("input_ids", "labels"), ROW_LENGTH).rows,
        tokenize_instructions(held_out, tokenizer, columns=COLUMNS, **lengths),
        Questions([messages for messages, _ in pairs], [[answer] for _, answer in pairs]),
    )


def iterate_batches(data: Data, variant: Variant, seed: int, num_steps: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yields batches without end; `num_steps` tells how fast growing ones grow."""
    collator = Seq2SeqCollator(data.tokenizer)
    if not variant.packed:
        # As many tokens as in the packed rows.
        size = round(variant.rows * len(data.examples) / len(data.packed))
        lengths = example_lengths(data.examples)
        for epoch in range(1000):
            order = LengthGroupedSampler(lengths, size, seed, lambda epoch=epoch: epoch)
            yield from DataLoader(data.examples, size, sampler=order, collate_fn=collator)
    generator = torch.Generator().manual_seed(seed)
    rows = (row for _ in range(1000) for row in RandomSampler(data.packed, generator=generator))
    for step in range(10**9):
        count = variant.rows
        if variant.first_rows is not None:
            grown = variant.first_rows + (variant.rows - variant.first_rows) * 2 * step / num_steps
            count = min(variant.rows, round(grown))
        yield collator([data.packed[next(rows)] for _ in range(count)])


class CautiousMuonAdamW(MuonAdamW):
    """Decays only what the step moves towards zero anyway, so that decay never works against the gradient."""

    def __init__(self, model: torch.nn.Module, learning_rate: float, weight_decay: float, **settings: Any) -> None:
        super().__init__(model, learning_rate, **settings)
        self.weight_decay = weight_decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Steps both parts, then decays the matrices."""
        matrices = self.param_groups[0]["params"]
        before = [matrix.clone() for matrix in matrices]
        loss = super().step(closure)
        rate = self.param_groups[0]["lr"] * self.weight_decay
        for matrix, old in zip(matrices, before, strict=True):
            matrix.sub_(old * ((old - matrix) * old > 0), alpha=rate)
        return loss


def make_optimizer(model: torch.nn.Module, variant: Variant) -> Optimizer:
    """The optimizer of a variant."""
    if variant.muon:
        optimizer_class = CautiousMuonAdamW if variant.cautious else MuonAdamW
        return optimizer_class(model, variant.rate, variant.decay, betas=(0.9, 0.98), ns_steps=variant.ns_steps)
    matrices, others = split_parameters(model)
    groups = [{"params": matrices, "weight_decay": variant.decay}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, lr=variant.rate, betas=(0.9, 0.98), fused=True)


def train(
    data: Data, variant: Variant, preset: str, seed: int, num_steps: int
) -> tuple[KakehashiForConditionalGeneration, list[float]]:
    """Trains a model and returns it with the processor seconds of each step."""
    set_seed(seed)
    special = {name: getattr(data.tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = KakehashiConfig.preset(
        preset,
        vocab_size=len(data.tokenizer),
        **special,
        decoder_start_token_id=data.tokenizer.bos_token_id,
        # In bfloat16 on a CPU, where segments are short, it trains faster than sdpa.
        attn_implementation="eager",
        **variant.config,
    )
    model = KakehashiForConditionalGeneration(config).train()
    optimizer = make_optimizer(model, variant)
    settings = {"num_decay_steps": num_steps // 4} if variant.schedule == "warmup_stable_decay" else None
    scheduler = get_scheduler(
        variant.schedule, optimizer, max(1, num_steps // 20), num_steps, scheduler_specific_kwargs=settings
    )
    averaged = None
    if variant.ema is not None:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(variant.ema))
    seconds = []
    batches = iterate_batches(data, variant, seed, num_steps)
    for _, batch in zip(range(num_steps), batches, strict=False):
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_bfloat16("cpu")):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if averaged is not None:
            averaged.update_parameters(model)
        seconds.append(time.process_time() - start)
    if averaged is not None:
        model.load_state_dict(averaged.module.state_dict())
    return model.eval(), seconds


@torch.inference_mode()
def validate(model: KakehashiForConditionalGeneration, data: Data) -> float:
    """Mean loss of the held-out target tokens, without label smoothing or z-loss."""
    model.config.label_smoothing = model.config.z_loss_weight = 0.0
    total, count = 0.0, 0
    order = np.argsort(example_lengths(data.validation))
    for start in range(0, len(order), 64):
        batch = Seq2SeqCollator(data.tokenizer)(list(data.validation.select(order[start : start + 64])))
        tokens = int((batch["labels"] != -100).sum())
        total += float(model(**batch).loss) * tokens
        count += tokens
    return total / count


def time_variants(data: Data, preset: str, names: list[str]) -> dict[str, float]:
    """Mean processor seconds of a step of each variant over short runs, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(2):
        for name in names:
            # Whole runs, so that growing batches count with all their sizes; the first steps only warm up.
            _, steps = train(data, VARIANTS[name], preset, 0, TIMED_STEPS)
            seconds[name] += steps[2:]
    return {name: statistics.mean(each) for name, each in seconds.items()}


def show(results: list[dict[str, Any]], names: list[str]) -> None:
    """Prints the table."""
    print("| variant | ms a step | steps | validation loss | chrF |")
    print("|---|---:|---:|---:|---:|")
    for name in names:
        mine = [each for each in results if each["variant"] == name]
        if not mine:
            continue
        columns = []
        for key, digits in (("loss", 3), ("chrf", 3)):
            values = [each[key] for each in mine]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            columns.append(f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}")
        step = 1000 * mine[0]["seconds_per_step"]
        print(f"| {name} | {step:.0f} | {mine[0]['steps']} | {' | '.join(columns)} |")


def main(
    train_file: Annotated[Path, typer.Argument(help="Pairs with the columns en and ja.")],
    validation_file: Annotated[Path, typer.Argument(help="The same, held out.")],
    tokenizer: Annotated[Path, typer.Option(help="Tokenizer folder.")],
    output: Annotated[Path, typer.Option(help="Lines of results; those there already are kept.")],
    preset: Annotated[str, typer.Option(help="Size of the model.")] = "nano",
    seconds: Annotated[float, typer.Option(help="Processor seconds of each run.")] = 60.0,
    seeds: Annotated[int, typer.Option(help="Seeds of each variant.")] = 3,
    validation_rows: Annotated[int, typer.Option(help="Held-out pairs to measure.")] = 200,
    only: Annotated[list[str] | None, typer.Option(help="Only this variant; may be repeated.")] = None,
    times: Annotated[Path | None, typer.Option(help="Seconds of a step; what is absent is measured.")] = None,
) -> None:
    """Runs what is missing and prints the table."""
    torch.set_num_threads(1)
    names = only or list(VARIANTS)
    data = read_data(train_file, validation_file, tokenizer, validation_rows)
    times = times or output.with_suffix(".times.json")
    step_seconds: dict[str, float] = json.loads(times.read_text(encoding="utf-8")) if times.exists() else {}
    if untimed := [name for name in names if name not in step_seconds]:
        step_seconds |= time_variants(data, preset, untimed)
        times.write_text(json.dumps(step_seconds, indent=1), encoding="utf-8")
    lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    results = [json.loads(line) for line in lines]
    done = {(each["variant"], each["seed"]) for each in results}
    for seed in range(seeds):
        for name in names:
            if (name, seed) in done:
                continue
            steps = round(seconds / step_seconds[name])
            model, _ = train(data, VARIANTS[name], preset, seed, steps)
            loss = validate(model, data)
            scores = evaluate_generation(
                model, data.tokenizer, data.questions, batch_size=100, max_new_tokens=48
            ).scores
            result = {
                "variant": name,
                "seed": seed,
                "steps": steps,
                "seconds_per_step": step_seconds[name],
                "loss": loss,
                "chrf": scores["chrf"],
            }
            results.append(result)
            with output.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(result) + "\n")
            notify(f"{name}, seed {seed}: {steps} steps, loss {loss:.3f}, chrF {scores['chrf']:.3f}")
    show(results, names)


if __name__ == "__main__":
    typer.run(main)
