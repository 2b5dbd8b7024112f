"""A few steps that are timed and forgotten."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, Seq2SeqTrainingArguments

from kakehashi.training import step_timer
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.flops import ModelFlops, Workload
from kakehashi.training.step_timer import time_steps

BATCH = {"input_ids": torch.full((2, 6), 20), "labels": torch.full((2, 4), 21)}


@pytest.mark.parametrize("use_muon", [False, True])
def test_steps_are_timed_with_their_tokens_and_operations(tiny_config, tmp_path, use_muon):
    training_arguments = Seq2SeqTrainingArguments(output_dir=str(tmp_path), gradient_checkpointing=use_muon)
    before = torch.random.get_rng_state()
    timed = time_steps(
        AutoModelForSeq2SeqLM, tiny_config, InstructArguments(use_muon=use_muon), training_arguments, [BATCH], 0.5
    )
    assert 0 < timed.steps <= 20
    assert timed.seconds > 0
    assert timed.tokens == timed.steps * 20
    work = Workload(12, 8, 72, 32, 48, 8)
    assert timed.flops == pytest.approx(timed.steps * ModelFlops.of_config(tiny_config).training(work))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_adapters_are_timed_where_the_recipe_trains_them(tiny_config, tiny_model_dir, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    trained = []
    step = step_timer._step

    def note(model, optimizer, batch, arguments):
        step(model, optimizer, batch, arguments)
        trained.append({name for name, weight in model.named_parameters() if weight.requires_grad})

    monkeypatch.setattr(step_timer, "_step", note)
    arguments = InstructArguments(model=str(tiny_model_dir), lora_rank=2)
    training_arguments = Seq2SeqTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    timed = time_steps(AutoModelForSeq2SeqLM, tiny_config, arguments, training_arguments, [BATCH], 0.0)
    assert trained[0] and all("lora_" in name for name in trained[0])
    work = Workload(12, 8, 72, 32, 48, 8)
    assert timed.flops < 0.9 * ModelFlops.of_config(tiny_config).training(work)


def test_at_least_one_step_is_timed(tiny_config, tmp_path):
    training_arguments = Seq2SeqTrainingArguments(output_dir=str(tmp_path), bf16=True, use_cpu=True)
    timed = time_steps(AutoModelForSeq2SeqLM, tiny_config, InstructArguments(), training_arguments, [BATCH], 0.0)
    assert timed.steps == 1


@pytest.mark.parametrize(("compiled", "warm_up"), [(None, 1), ("layers", 6), ("model", 6)])
def test_compiling_is_over_before_the_clock_runs(tiny_config, tmp_path, monkeypatch, compiled, warm_up):
    taken, calls = [], []
    monkeypatch.setattr(step_timer, "_step", lambda model, optimizer, batch, arguments: taken.append(batch))
    monkeypatch.setattr(step_timer, "compile_layers", lambda model: calls.append("layers"))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda model, **options: calls.append("model"))
    arguments = InstructArguments(compile_layers=compiled == "layers")
    training_arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, torch_compile=compiled == "model"
    )
    batches = [{name: rows[:count] for name, rows in BATCH.items()} for count in (1, 2)]
    timed = time_steps(AutoModelForSeq2SeqLM, tiny_config, arguments, training_arguments, batches, 0.0)
    assert timed.steps == 1
    assert calls == [compiled] * bool(compiled)
    assert [len(batch["labels"]) for batch in taken[:-1]] == [1, 2, 1, 2, 1, 2][:warm_up]
