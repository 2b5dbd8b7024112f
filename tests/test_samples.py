"""Answers while a model learns: what is asked, where it is written, and that it leaves no trace."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState, TrainingArguments

from kakehashi.modeling import KakehashiForCausalLM
from kakehashi.tokenization.chat import for_causal_lm
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.instruct import run_instruct
from kakehashi.training.recipe import parse_recipe
from kakehashi.training.run_files import listed_files
from kakehashi.training.samples import AnswerSamples, SampleQuestion, answer_without_trace


@pytest.fixture
def recipe(tmp_path, tiny_model_dir, tiny_sentences):
    table = tmp_path / "pairs.tsv"
    rows = zip(tiny_sentences[:5], tiny_sentences[5:], strict=True)
    table.write_text("en\tja\n" + "".join(f"{en}\t{ja}\n" for en, ja in rows), encoding="utf-8")
    return {
        "model": str(tiny_model_dir),
        # Dropout, so that a random number too many would show.
        "config_overrides": {"dropout": 0.1},
        "train_files": [str(table)],
        "validation_files": [str(table)],
        "source_template": ["Translate to Japanese: {en}", "Translate to English: {ja}"],
        "target_template": ["{ja}", "{en}"],
        "max_source_length": 64,
        "max_target_length": 12,
        "max_steps": 4,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 5,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "no",
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }


def run(recipe, **keys):
    return run_instruct(*parse_recipe(InstructArguments, {**recipe, **keys}))


def samples_in(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_first_validation_rows_are_answered_at_every_validation(recipe, tmp_path, tiny_sentences, capsys):
    run(recipe)
    samples = samples_in(tmp_path / "run")
    assert [sample["step"] for sample in samples] == [2, 2, 2, 4, 4, 4]
    assert samples[0]["prompt"] == f"Translate to Japanese: {tiny_sentences[0]}"
    assert samples[0]["reference"] == tiny_sentences[5]
    assert samples[1]["prompt"] == f"Translate to English: {tiny_sentences[5]}"
    assert "samples.jsonl" in listed_files(tmp_path / "run")
    error = capsys.readouterr().err
    assert f"step 2: Translate to Japanese: {tiny_sentences[0]} → " in error
    assert f"(right: {tiny_sentences[5]})" in error


def test_answers_change_no_weight_of_the_run(recipe, tmp_path):
    run(recipe, output_dir=str(tmp_path / "with"), sample_steps=1)
    run(recipe, output_dir=str(tmp_path / "without"), sample_rows=0)
    assert not (tmp_path / "without" / "samples.jsonl").exists()
    with_samples, without = (load_file(tmp_path / name / "model.safetensors") for name in ("with", "without"))
    assert all(torch.equal(with_samples[name], without[name]) for name in without)


def test_prompts_of_the_recipe_are_answered_every_so_many_steps_without_validation(recipe, tmp_path):
    del recipe["validation_files"]
    run(recipe, sample_prompts=["Hello", "こんにちは"], sample_steps=3, eval_strategy="no")
    samples = samples_in(tmp_path / "run")
    assert [(sample["step"], sample["prompt"], sample["reference"]) for sample in samples] == [
        (3, "Hello", None),
        (3, "こんにちは", None),
    ]


def test_prompts_that_would_never_be_answered_are_refused_before_training(recipe, tmp_path):
    with pytest.raises(ValueError, match="`sample_prompts` are answered at every validation, but there is none"):
        run(recipe, sample_prompts=["Hello"], eval_strategy="no")
    assert not (tmp_path / "run").exists()


def test_a_decoder_alone_answers_too(recipe, build_tiny_model, tiny_tokenizer, tmp_path):
    build_tiny_model(KakehashiForCausalLM).save_pretrained(tmp_path / "causal")
    for_causal_lm(tiny_tokenizer).save_pretrained(tmp_path / "causal")
    run(recipe, model=str(tmp_path / "causal"), sample_rows=1)
    samples = samples_in(tmp_path / "run")
    assert [sample["step"] for sample in samples] == [2, 4]
    # The prompt is not repeated in the answer.
    assert not samples[0]["answer"].startswith("Translate to Japanese")


@pytest.fixture
def ask(tmp_path, tiny_model, tiny_tokenizer):
    """A function that starts a run at a step and validates it at another."""

    def ask_at(step, start=0, bf16=False, **keys):
        arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=bf16)
        questions = [SampleQuestion("I love cats.")]
        samples = AnswerSamples(tiny_tokenizer, questions, max_new_tokens=3, **keys)
        state = TrainerState(global_step=start, is_world_process_zero=True)
        samples.on_train_begin(arguments, state, TrainerControl())
        state.global_step = step
        for metrics in ({"eval_loss": 1.0}, {"test_loss": 1.0}, {"eval_loss": 1.0}):
            samples.on_evaluate(arguments, state, TrainerControl(), model=tiny_model, metrics=metrics)

    return ask_at


def test_a_resumed_run_replaces_the_answers_after_its_checkpoint(ask, tmp_path):
    ask(2)
    ask(6, start=2)
    ask(4, start=3)
    assert [sample["step"] for sample in samples_in(tmp_path)] == [2, 4]


def test_a_step_is_asked_once_and_the_time_is_left_out(ask, tmp_path):
    left_out = []
    ask(2, leave_out=lambda: left_out.append(True))
    assert [sample["step"] for sample in samples_in(tmp_path)] == [2]
    assert left_out == [True]


def test_the_whole_model_answers_in_the_precision_of_the_run(ask, tiny_model, monkeypatch):
    dtypes = set()
    encoder = tiny_model.get_encoder().layers[0].mlp.down_proj
    hook = encoder.register_forward_hook(lambda module, args, output: dtypes.add((module.training, output.dtype)))
    ask(2, bf16=True)
    hook.remove()
    assert (False, torch.bfloat16) in dtypes and (False, torch.float32) not in dtypes


def test_model_and_random_state_are_given_back(tiny_model, tiny_tokenizer, monkeypatch):
    before = torch.random.get_rng_state()
    answers = answer_without_trace(tiny_model.train(), tiny_tokenizer, ["Hi"], 3)
    assert len(answers) == 1
    assert tiny_model.training
    assert torch.equal(torch.random.get_rng_state(), before)

    def fail(*args, **kwargs):
        torch.rand(3)
        raise RuntimeError("no memory")

    monkeypatch.setattr(tiny_model, "generate", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        answer_without_trace(tiny_model, tiny_tokenizer, ["Hi"], 3)
    assert tiny_model.training
    assert torch.equal(torch.random.get_rng_state(), before)
