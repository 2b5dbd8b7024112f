"""What a plain Trainer, a model and a tokenizer push by themselves is a complete repository."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from kakehashi.modeling.configuration_kakehashi import AUTO_MAP
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.instruct import run_instruct
from kakehashi.training.publish.trainer_code import CodeForTheHub
from kakehashi.training.recipe import parse_recipe

CODE_FILES = {path.name for path in (Path(__file__).parent.parent / "modeling").glob("*_kakehashi.py")}


@pytest.fixture
def make_trainer(tiny_model, tiny_tokenizer, tiny_sentences, tmp_path):
    """A function that makes a plain Trainer which pushes to `user/plain`."""
    encoded = tiny_tokenizer(tiny_sentences)["input_ids"]

    def make(callbacks=(), **settings):
        return Trainer(
            model=tiny_model,
            args=TrainingArguments(
                output_dir=str(tmp_path / "plain"),
                push_to_hub=True,
                hub_model_id="user/plain",
                max_steps=2,
                per_device_train_batch_size=2,
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=Dataset.from_dict({"input_ids": encoded, "labels": encoded}),
            processing_class=tiny_tokenizer,
            callbacks=list(callbacks),
            data_collator=DataCollatorForSeq2Seq(tiny_tokenizer, model=tiny_model),
        )

    return make


def require_complete(hub):
    files = set(hub.repositories["models/user/plain"].files())
    assert files >= CODE_FILES, CODE_FILES - files
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= files
    config = json.loads(hub.content("user/plain", "config.json"))
    assert config["auto_map"] == AUTO_MAP
    return files


def test_what_a_plain_trainer_pushes_at_its_end_is_complete(make_trainer, hub, tiny_model, tiny_tokenizer):
    trainer = make_trainer(hub_strategy="end", save_strategy="no")
    trainer.train()
    trainer.push_to_hub()
    assert "README.md" in require_complete(hub)
    again = AutoModelForSeq2SeqLM.from_pretrained("user/plain")
    assert all(
        (weight == other).all() for weight, other in zip(again.parameters(), tiny_model.parameters(), strict=True)
    )
    assert AutoTokenizer.from_pretrained("user/plain")("I love cats.") == tiny_tokenizer("I love cats.")


def test_what_a_plain_trainer_pushes_while_it_trains_is_complete_with_the_callback(make_trainer, hub):
    trainer = make_trainer([CodeForTheHub()], hub_strategy="every_save", save_strategy="steps", save_steps=1)
    trainer.train()
    require_complete(hub)


def test_what_a_recipe_pushes_while_it_trains_is_complete(hub, tiny_tokenizer, tmp_path):
    rows = [{"instruction": "Say it.", "output": sentence} for sentence in ("I love cats.", "The dog ran.")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    recipe = {
        "preset": "nano",
        "config_overrides": {"hidden_size": 32, "intermediate_size": 32, "num_encoder_layers": 1, "head_dim": 8},
        "tokenizer": str(tmp_path / "tokenizer"),
        "train_files": [str(tmp_path / "rows.jsonl")],
        "output_dir": str(tmp_path / "run"),
        "max_steps": 1,
        "save_steps": 1,
        "disable_tqdm": True,
        "push_to_hub": True,
        "hub_model_id": "user/plain",
        "hub_token": hub.add_user("user"),
    }
    run_instruct(*parse_recipe(InstructArguments, recipe))
    require_complete(hub)
    assert "hub_token" not in (tmp_path / "run" / "recipe.yaml").read_text("utf-8")


def test_the_callback_leaves_other_models_alone(tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path / "run"), report_to="none", use_cpu=True)
    CodeForTheHub().on_push_begin(arguments, TrainerState(), TrainerControl(), model=torch.nn.Linear(1, 1))
    assert not (tmp_path / "run").exists()
