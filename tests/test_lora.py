"""LoRA by one recipe key: small to train, exact to resume, and a plain model folder at the end."""

import builtins
import json
import signal
import warnings

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    TrainerCallback,
)

from kakehashi.training.arguments import ClassifyArguments, InstructArguments, PretrainArguments
from kakehashi.training.checkpoints import list_checkpoints
from kakehashi.training.classify import run_classify
from kakehashi.training.inference import generate_texts, load_for_generation
from kakehashi.training.instruct import run_instruct
from kakehashi.training.lora import add_adapter
from kakehashi.training.pretrain import run_pretrain
from kakehashi.training.recipe import parse_recipe
from kakehashi.training.run import TrainingInterrupted, build_run

peft = pytest.importorskip("peft")

PARTS = ("weight", "bias")


@pytest.fixture
def recipe(tmp_path, tiny_model_dir, tiny_sentences):
    rows = [{"text": text, "label": "en" if index < 5 else "ja"} for index, text in enumerate(tiny_sentences)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return {
        "model": str(tiny_model_dir),
        "train_files": [str(path)],
        "lora_rank": 4,
        "max_steps": 4,
        "learning_rate": 0.02,
        "per_device_train_batch_size": 5,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }


def classify(recipe, **keys):
    return run_classify(*parse_recipe(ClassifyArguments, {**recipe, "max_length": 64, **keys}))


def instruct(recipe, **keys):
    asked = {"source_template": ["What language? {text}"], "target_template": ["{label}"]}
    return run_instruct(*parse_recipe(InstructArguments, {**recipe, **asked, **keys}))


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def test_a_classifier_trained_by_adapters_is_a_plain_folder_beside_a_small_adapter(recipe, tmp_path, tiny_model):
    metrics = classify(recipe, max_steps=60, validation_files=recipe["train_files"], lora_dropout=0.05)
    assert metrics["eval_accuracy"] == 1.0
    assert metrics["trained_parameters"] < metrics["parameters"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
    assert metrics["parameters"] == model.num_parameters()
    plain = tiny_model.state_dict()
    for name, weight in model.state_dict().items():
        # What has no adapter stays as it was; what has one changed.
        is_adapted = name.endswith("_proj.weight")
        assert name == "score.weight" or torch.equal(weight, plain[name]) != is_adapted, name
    folder = tmp_path / "run" / "adapter"
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "SEQ_CLS")
    assert config["base_model_name_or_path"] == recipe["model"] and "score" in config["modules_to_save"]
    base = AutoModelForSequenceClassification.from_pretrained(recipe["model"], num_labels=2)
    loaded = peft.PeftModel.from_pretrained(base, folder).eval()
    ids = torch.randint(4, 200, (2, 6))
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, model.eval()(ids).logits, rtol=1e-4, atol=1e-5)
    classify(recipe, max_steps=1, overwrite=True, lora_rank=0)
    assert not folder.exists()


def test_what_is_new_under_the_head_trains_whole_and_goes_with_the_adapter(recipe, tmp_path, tiny_tokenizer):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    folder = tmp_path / "bert"
    BertForMaskedLM(BertConfig(vocab_size=len(tiny_tokenizer), **shape)).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    classify(recipe, model=str(folder))
    names = set(load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors"))
    whole = {f"base_model.model.{name}.{part}" for name in ("bert.pooler.dense", "classifier") for part in PARTS}
    assert {name for name in names if ".lora_" not in name} == whole
    assert any("query.lora_A" in name for name in names) and not any("pooler.dense.lora" in name for name in names)
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    loaded = peft.PeftModel.from_pretrained(loaded, tmp_path / "run" / "adapter").eval()
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    ids = torch.randint(4, 200, (2, 6))
    torch.testing.assert_close(loaded(input_ids=ids).logits, merged(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use_muon", [False, True])
def test_an_interrupted_run_ends_with_the_same_bits(recipe, tmp_path, monkeypatch, use_muon):
    keys = {"lora_dropout": 0.1, "use_muon": use_muon, "save_strategy": "steps", "save_steps": 2}
    instruct(recipe, **keys)
    expected = weights_of(tmp_path / "run")
    second = {**recipe, "output_dir": str(tmp_path / "second")}

    class PressCtrlC(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                signal.raise_signal(signal.SIGINT)

    def build_interrupted(*args, **kwargs):
        run = build_run(*args, **kwargs)
        run.trainer.add_callback(PressCtrlC())
        return run

    with monkeypatch.context() as patch:
        patch.setattr("kakehashi.training.instruct.build_run", build_interrupted)
        with pytest.raises(TrainingInterrupted):
            instruct(second, **keys)
    checkpoint = list_checkpoints(tmp_path / "second")[0]
    assert checkpoint.name in ("checkpoint-2", "checkpoint-3")
    assert (checkpoint / "adapter_model.safetensors").stat().st_size < 200_000
    assert not (checkpoint / "model.safetensors").exists()
    instruct(second, **keys, resume_from_checkpoint="newest")
    found = weights_of(tmp_path / "second")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_adapted_writer_answers_from_its_run_folder(recipe, tmp_path):
    metrics = instruct(recipe, lora_target_modules=["q_proj", "v_proj"], generation_examples=2, validation_split=0.2)
    assert "eval_exact_match" in metrics
    model, tokenizer = load_for_generation(tmp_path / "run")
    assert len(generate_texts(model, tokenizer, ["I love cats."], max_new_tokens=4)) == 1
    with pytest.raises(ValueError, match="holds an adapter; take the folder around it"):
        load_for_generation(tmp_path / "run" / "adapter")
    before = AutoModelForSeq2SeqLM.from_pretrained(recipe["model"]).state_dict()
    moved = {name.split(".")[-2] for name, each in model.state_dict().items() if not torch.equal(each, before[name])}
    assert moved == {"q_proj", "v_proj"}
    saved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert saved["lora_rank"] == 4 and saved["lora_target_modules"] == ["q_proj", "v_proj"]


def test_pretraining_goes_on_with_adapters_too(recipe, tmp_path):
    stage = parse_recipe(
        PretrainArguments, {**recipe, "max_steps": 1, "max_source_length": 32, "max_target_length": 32}
    )
    assert run_pretrain(*stage)["trained_parameters"] > 0
    assert (tmp_path / "run" / "adapter").is_dir()


def test_adapters_in_a_frozen_encoder_do_not_train(recipe, tmp_path):
    instruct(recipe, freeze_encoder=True)
    before = AutoModelForSeq2SeqLM.from_pretrained(recipe["model"]).state_dict()
    after = weights_of(tmp_path / "run")
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved and all(".decoder." in name for name in moved)


def test_adapters_are_put_on_without_a_warning(recipe, tiny_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        add_adapter(tiny_model, ClassifyArguments(model=recipe["model"], lora_rank=4))


def test_what_cannot_be_adapted_is_told_in_one_line(recipe, tmp_path, monkeypatch, tiny_tokenizer):
    with pytest.raises(ValueError, match="must name linear layers of the model, got 'query_proj'; nearest: 'q_proj'"):
        classify(recipe, lora_target_modules=["query_proj"])
    with pytest.raises(ValueError, match="`lora_rank` must be at least 1, or 0 for no adapters, got -1"):
        ClassifyArguments(lora_rank=-1)
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    new = {key: value for key, value in recipe.items() if key != "model"}
    with pytest.raises(ValueError, match="`lora_rank` must be left out without a trained `model` to adapt, got 4"):
        classify({**new, "preset": "nano", "tokenizer": str(tmp_path / "tokenizer")}, overwrite=True)
    found = builtins.__import__

    def import_without_peft(name, *args, **kwargs):
        if name == "peft":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_without_peft)
    with pytest.raises(ValueError, match=r"needs the package peft: pip install 'kakehashi\[lora\]'"):
        classify(recipe, overwrite=True)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_adapters_learn_with_checkpointed_layers_and_the_best_of_them_is_kept(recipe, tmp_path):
    keys = {"validation_files": recipe["train_files"], "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    keys |= {"save_strategy": "steps", "load_best_model_at_end": True, "metric_for_best_model": "loss"}
    # At such a rate the last step is hardly the best one.
    metrics = classify(recipe, gradient_checkpointing=True, learning_rate=0.5, **keys)
    log = json.loads((tmp_path / "run" / "log_history.json").read_text())
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert metrics["eval_loss"] == pytest.approx(min(losses), rel=1e-5)
    weights = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert all(weight.any() for name, weight in weights.items() if "lora_B" in name)
