"""Everything about a run that can be known before it: `kakehashi check`.

The recipe is resolved as the stage would do it, the model is built without weights, and a sample of the rows goes
through the stage's own functions. Nothing is written.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import PreTrainedConfig, PreTrainedModel, Seq2SeqTrainingArguments

from kakehashi.training.arguments import (
    DEFAULT_SEEDS,
    STAGES,
    ClassifyArguments,
    InstructArguments,
    StageArguments,
    require_compatible,
)
from kakehashi.training.attention import set_attention
from kakehashi.training.console import quiet_library
from kakehashi.training.early_stopping import settle_stopping
from kakehashi.training.flops import ModelFlops, Workload, peak_rate
from kakehashi.training.freezing import freeze_parts
from kakehashi.training.length_statistics import describe_lengths
from kakehashi.training.lora import add_adapter
from kakehashi.training.memory import ParameterCounts, estimate_memory
from kakehashi.training.packing import LENGTHS_OF
from kakehashi.training.preview import Preview, make_batches, preview_stage
from kakehashi.training.recipe import ends_by_time, parse_recipe, read_recipe, resolved_recipe
from kakehashi.training.recipe_warnings import find_warnings
from kakehashi.training.recipes import find_recipe
from kakehashi.training.reporting import check_reporters
from kakehashi.training.row_sample import RowSample, sample_rows
from kakehashi.training.samples import check_samples
from kakehashi.training.splits import require_files
from kakehashi.training.starting_point import load_config, load_tokenizer
from kakehashi.training.step_timer import time_steps
from kakehashi.training.throughput import count_batch
from kakehashi.training.trainer import count_batches

# Of the peak, where nothing is measured: what small models reach on a processor and on a data sheet's rate.
ASSUMED_UTILIZATION = {"cpu": 0.4, "cuda": 0.35}
_SAMPLE_SIZE = 2000
_HEADER = re.compile(rf"^#.*\bkakehashi ({'|'.join(STAGES)})\b", re.M)


@dataclasses.dataclass(frozen=True)
class RecipeCheck:
    """What is known of a run before it, as plain values.

    Attributes:
        stage: `pretrain`, `instruct` or `classify`.
        recipe: The resolved recipe: every key that is no default.
        model: Class, vocabulary, parameters by place, and those that are trained.
        data: For each split of one run rows and examples, and the lengths of the training texts.
        step: Examples, tokens, slots and operations of one optimizer step on all devices.
        run: Steps, epochs, tokens and time budget of one run, and how many runs (`parts`) the recipe asks for.
        memory: Bytes on one device.
        time: Peak, utilisation, seconds of a step and of all runs, and where the numbers are from.
        warnings: What is likely not meant.
    """

    stage: str
    recipe: dict[str, Any]
    model: dict[str, Any]
    data: dict[str, Any]
    step: dict[str, float]
    run: dict[str, Any]
    memory: dict[str, float | None]
    time: dict[str, Any]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as nested mappings, for JSON."""
        return dataclasses.asdict(self)


def find_stage(recipe: Mapping[str, Any], path: str, stage: str | None = None) -> str:
    """Returns which stage a recipe is for.

    Args:
        recipe: Its keys and values, overrides among them.
        path: Its file or name; where the keys fit several stages, its header may say `kakehashi STAGE`.
        stage: What the user says; `None` finds it.

    Raises:
        ValueError: If the stage is unknown, or neither keys nor header tell it.
    """
    if stage is not None:
        if stage not in STAGES:
            raise ValueError(f"`--stage` must be one of {', '.join(STAGES)}, got {stage!r}")
        return stage
    of_trainer = {field.name for field in dataclasses.fields(Seq2SeqTrainingArguments)}
    known = {name: of_trainer | {field.name for field in dataclasses.fields(kind)} for name, kind in STAGES.items()}
    unknown = {name: len([key for key in recipe if key not in keys]) for name, keys in known.items()}
    fitting = [name for name, count in unknown.items() if count == min(unknown.values())]
    if len(fitting) == 1:
        return fitting[0]
    file = Path(path) if Path(path).is_file() else find_recipe(path)
    header = None if file is None else _HEADER.search(file.read_text(encoding="utf-8"))
    if header is not None and header[1] in fitting:
        return header[1]
    raise ValueError(f"`--stage` must say which stage {path} is for: its keys fit {' and '.join(fitting)}")


def check_recipe(
    path: str,
    overrides: Mapping[str, Any],
    *,
    stage: str | None = None,
    utilization: float | None = None,
    measure: bool = False,
) -> RecipeCheck:
    """Checks a recipe and estimates its run.

    Args:
        path: A recipe file, or the name of a shipped one.
        overrides: Keys and values that replace those of the recipe.
        stage: `pretrain`, `instruct` or `classify`; `None` finds it.
        utilization: Assumed share of the device's peak; `None` takes `ASSUMED_UTILIZATION`.
        measure: Whether to time a few steps instead.

    Raises:
        ValueError: As the stage itself, for everything that can be known before it trains.
        OSError: If a file cannot be read.
    """
    recipe = read_recipe(path)
    stage = find_stage({**recipe, **overrides}, path, stage)
    arguments, training_arguments = parse_recipe(STAGES[stage], recipe, overrides)
    require_compatible(arguments, training_arguments)
    settle_stopping(arguments, training_arguments)
    check_reporters(training_arguments)
    if isinstance(arguments, InstructArguments):
        check_samples(arguments, training_arguments)
    tokenizer = load_tokenizer(arguments)
    config = load_config(arguments, tokenizer)
    samples = _sample_splits(arguments, training_arguments)
    with _quiet():
        train = samples["train"]
        is_whole = train.is_complete and len(train.rows) == train.total
        preview = preview_stage(arguments, training_arguments, tokenizer, config, train.rows, is_whole=is_whole)
        batches = make_batches(preview, training_arguments)
        model = _build_on_meta(preview, config, arguments, training_arguments)
    counts = np.array([_count(model, batch) for batch in batches], dtype=np.float64)
    data = _describe_data(arguments, samples, preview, config)
    step, run = _describe_run(arguments, training_arguments, model, counts.mean(axis=0), data)
    memory = _describe_memory(model, batches, arguments, training_arguments)
    timing = _describe_time(model, step, training_arguments, utilization)
    if measure:
        timed = time_steps(preview.auto_class, config, arguments, training_arguments, batches)
        rate = timed.flops / timed.seconds
        timing |= {"utilization": rate / timing["peak_flops_per_second"], "measured_steps": timed.steps}
    _add_durations(timing, step, run, arguments)
    described = {"class": type(model).__name__, "vocabulary": config.vocab_size, **_describe_parameters(model)}
    resolved = resolved_recipe(arguments, training_arguments)
    checked = RecipeCheck(stage, resolved, described, data, step, run, memory, timing, [])
    return dataclasses.replace(checked, warnings=find_warnings(checked, arguments, training_arguments, config))


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what a stage says of its rows: of a sample it would be misleading, and the tables say it."""
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with quiet_library(), redirect_stderr(StringIO()):
            yield
    finally:
        if had_bars:
            enable_progress_bars()


def _sample_splits(arguments: StageArguments, training_arguments: Seq2SeqTrainingArguments) -> dict[str, RowSample]:
    """Returns a sample of each split that is named by files."""
    files = require_files(arguments)
    size = max(_SAMPLE_SIZE, 4 * training_arguments.train_batch_size)
    samples = {"train": sample_rows(files, limit=size, seed=training_arguments.seed)}
    for split in ("validation", "test"):
        held_out = getattr(arguments, f"{split}_files")
        if held_out:
            samples[split] = sample_rows(held_out, split=split, limit=100)
    return samples


def _build_on_meta(
    preview: Preview,
    config: PreTrainedConfig,
    arguments: StageArguments,
    training_arguments: Seq2SeqTrainingArguments,
) -> PreTrainedModel:
    """Returns the model as it will be trained, with adapters and frozen parts, but without weights."""
    with torch.device("meta"):
        model = preview.auto_class.from_config(config)
        set_attention(model, arguments, training_arguments)
        trained: Any = add_adapter(model, arguments)
    freeze_parts(trained, arguments)
    return trained


def _count(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[int]:
    return count_batch(batch, bool(model.config.is_encoder_decoder), model.can_generate()).tolist()


def _describe_parameters(model: PreTrainedModel) -> dict[str, int]:
    places = ParameterCounts.of_model(model)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {**dataclasses.asdict(places), "parameters": places.total, "trained_parameters": trained}


def _describe_data(
    arguments: StageArguments, samples: Mapping[str, RowSample], preview: Preview, config: PreTrainedConfig
) -> dict[str, Any]:
    """Returns rows and examples of each split of one run, and the quantiles of the training texts' lengths."""
    rows = {name: float(sample.total) for name, sample in samples.items()}
    if arguments.validation_split:
        rows["validation"] = max(1.0, round(rows["train"] * arguments.validation_split))
        rows["train"] -= rows["validation"]
    for split in ("train", "validation"):
        limit = getattr(arguments, f"max_{split}_examples")
        if limit is not None and split in rows:
            rows[split] = min(rows[split], limit)
    if isinstance(arguments, ClassifyArguments):
        assert config.num_labels is not None
        rows |= _divide_rows(rows, arguments, config.num_labels)
    described: dict[str, Any] = {name: {"rows": round(count)} for name, count in rows.items()}
    described["train"]["examples"] = round(rows["train"] * preview.examples_per_row)
    described["train"]["is_packed"] = LENGTHS_OF["input_ids"] in preview.examples.column_names
    described["is_complete"] = all(sample.is_complete for sample in samples.values())
    described["sampled_rows"] = len(samples["train"].rows)
    described["notes"] = list(preview.notes)
    described["lengths"] = {}
    for side, lengths in preview.lengths.items():
        found, longer = describe_lengths(lengths, preview.limits[side])
        fate = "cut" if preview.is_cut else "split"
        described["lengths"][side] = {**found, "limit": preview.limits[side], fate: longer}
    return described


def _divide_rows(rows: Mapping[str, float], arguments: ClassifyArguments, num_labels: int) -> dict[str, float]:
    """Returns the rows that one of several runs trains and is tested on, nothing where there is one."""
    if arguments.folds is not None:
        tested = rows["train"] / arguments.folds
        return {"train": rows["train"] - tested, "test": tested}
    if arguments.shots is not None:
        drawn = min(arguments.shots * num_labels, rows["train"])
        return {"train": drawn, "test": rows.get("test", rows["train"] - drawn)}
    return {}


def _count_parts(arguments: StageArguments) -> int:
    """Returns how many runs a recipe asks for."""
    if not isinstance(arguments, ClassifyArguments):
        return 1
    return arguments.folds or (arguments.seeds or DEFAULT_SEEDS if arguments.shots else 1)


def _describe_run(
    arguments: StageArguments,
    training_arguments: Seq2SeqTrainingArguments,
    model: PreTrainedModel,
    counts: Sequence[float],
    data: Mapping[str, Any],
) -> tuple[dict[str, float], dict[str, Any]]:
    """Returns what an optimizer step computes on all devices, and how many steps each run has."""
    slots, *sums = counts
    batches = training_arguments.gradient_accumulation_steps * training_arguments.world_size
    work = Workload(*sums) * batches
    tokens = work.source_tokens + work.target_tokens
    flops = ModelFlops.of_model(model).with_backward(model).forward(work)
    examples = training_arguments.train_batch_size * batches
    step = {
        "examples": examples,
        "source_tokens": work.source_tokens,
        "target_tokens": work.target_tokens,
        "tokens": tokens,
        "labels": work.labels,
        "slots": slots * batches,
        "packing_efficiency": tokens / (slots * batches),
        "flops": flops,
        "flops_per_token": flops / tokens,
    }
    count = count_batches(data["train"]["examples"], training_arguments)
    per_epoch = max(1, math.ceil(count / training_arguments.gradient_accumulation_steps))
    steps: int | None = training_arguments.max_steps
    if training_arguments.max_steps <= 0:
        is_open = ends_by_time(arguments, training_arguments)
        steps = None if is_open else math.ceil(training_arguments.num_train_epochs * per_epoch)
    run = {"steps": steps, "steps_per_epoch": per_epoch, "max_minutes": arguments.max_minutes}
    return step, {**run, "parts": _count_parts(arguments)}


def _describe_memory(
    model: PreTrainedModel,
    batches: Sequence[dict[str, torch.Tensor]],
    arguments: StageArguments,
    training_arguments: Seq2SeqTrainingArguments,
) -> dict[str, float | None]:
    """Returns the bytes of the largest batch that was seen, and those that the device has."""
    largest = max(batches, key=lambda batch: batch["input_ids"].numel())
    _, _, _, _, _, _, labels = _count(model, largest)
    decoded = largest.get("decoder_input_ids")
    device = training_arguments.device
    estimate = estimate_memory(
        model,
        source_tokens=largest["input_ids"].numel(),
        target_tokens=0 if decoded is None else decoded.numel(),
        labels=labels,
        use_muon=arguments.use_muon,
        bf16=training_arguments.bf16 or training_arguments.fp16,
        gradient_checkpointing=bool(training_arguments.gradient_checkpointing),
        chunked_loss=_is_chunked(model.config, training_arguments),
        shards=training_arguments.world_size if training_arguments.fsdp else 1,
        device_type=device.type,
    )
    return {**dataclasses.asdict(estimate), "total": estimate.total, "device": _device_memory(device)}


def _is_chunked(config: PreTrainedConfig, training_arguments: Seq2SeqTrainingArguments) -> bool:
    """Returns whether the loss computes logits piece by piece, as `TokenLoss` decides it."""
    chosen = getattr(config, "chunked_loss", False)
    if getattr(config, "label_smoothing", 0) or getattr(config, "z_loss_weight", 0):
        return False
    return not training_arguments.torch_compile if chosen is None else bool(chosen)


def _device_memory(device: torch.device) -> float | None:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return None


def _describe_time(
    model: PreTrainedModel,
    step: Mapping[str, float],
    training_arguments: Seq2SeqTrainingArguments,
    utilization: float | None,
) -> dict[str, Any]:
    device = training_arguments.device
    peak = peak_rate(device, torch.bfloat16 if training_arguments.bf16 else model.dtype)
    assumed = ASSUMED_UTILIZATION.get(device.type, ASSUMED_UTILIZATION["cuda"])
    return {
        "device": device.type,
        "devices": training_arguments.world_size,
        "peak_flops_per_second": peak.flops_per_second,
        "peak_source": peak.source,
        "utilization": assumed if utilization is None else utilization,
        "measured_steps": 0,
    }


def _add_durations(
    timing: dict[str, Any], step: Mapping[str, float], run: dict[str, Any], arguments: StageArguments
) -> None:
    """Adds the seconds of a step and of all parts; with a time budget of each, the steps that fit into it."""
    rate = timing["peak_flops_per_second"] * timing["devices"] * timing["utilization"]
    seconds = step["flops"] / rate
    budget = None if arguments.max_minutes is None else 60 * arguments.max_minutes
    fitting = run["steps"] if budget is None else math.ceil(budget / seconds)
    run["steps"] = fitting if run["steps"] is None else min(run["steps"], fitting)
    run["epochs"] = run["steps"] / run["steps_per_epoch"]
    run["tokens"] = run["steps"] * step["tokens"]
    needed = run["steps"] * seconds
    timing |= {
        "seconds_per_step": seconds,
        "tokens_per_second": step["tokens"] / seconds,
        "seconds": run["parts"] * (needed if budget is None else min(budget, needed)),
    }
