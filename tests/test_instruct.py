"""Instruction tuning from a table to a model that answers, for both shapes that can."""

import json
import logging

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, T5Config

from kakehashi.modeling import KakehashiForCausalLM
from kakehashi.tokenization.chat import for_causal_lm
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.inference import generate_texts, load_for_generation, translation_template
from kakehashi.training.instruct import remember_task_templates, run_instruct
from kakehashi.training.recipe import parse_recipe


@pytest.fixture
def recipe(tmp_path, tiny_sentences):
    table = tmp_path / "pairs.tsv"
    rows = zip(tiny_sentences[:5], tiny_sentences[5:], strict=True)
    table.write_text("en\tja\n" + "".join(f"{en}\t{ja}\n" for en, ja in rows), encoding="utf-8")
    return {
        "train_files": [str(table)],
        "validation_files": [str(table)],
        "source_template": ["Translate to Japanese: {en}", "Translate to English: {ja}"],
        "target_template": ["{ja}", "{en}"],
        "max_source_length": 64,
        "max_target_length": 32,
        "max_steps": 4,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 10,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "no",
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }


def run(recipe, **keys):
    return run_instruct(*parse_recipe(InstructArguments, {**recipe, **keys}))


def test_both_directions_of_a_table_are_learnt_by_heart(recipe, tiny_model_dir, tmp_path, tiny_sentences):
    metrics = run(recipe, model=str(tiny_model_dir), max_steps=150, logging_steps=50, eval_steps=150)
    assert metrics["eval_loss"] < 0.1
    model, tokenizer = load_for_generation(tmp_path / "run")
    template = translation_template(model.config, "ja")
    assert template == "Translate to Japanese: {text}"
    prompts = [template.replace("{text}", sentence) for sentence in tiny_sentences[:5]]
    assert generate_texts(model, tokenizer, prompts, max_new_tokens=32) == tiny_sentences[5:]


def test_answers_are_measured_on_so_many_validation_rows(recipe, tiny_model_dir, tmp_path):
    metrics = run(recipe, model=str(tiny_model_dir), generation_examples=2)
    assert {"eval_loss", "eval_exact_match", "eval_chrf", "eval_bleu"} <= metrics.keys()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics


def test_answers_that_cannot_be_measured_are_told_before_training(recipe, tiny_model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("kakehashi.training.instruct.train", lambda *_: pytest.fail("trained in vain"))
    table = tmp_path / "gaps.tsv"
    table.write_text("en\tja\n\t\n\t\nI love cats.\t猫が好き。\n", encoding="utf-8")
    for files in (None, [str(table)]):
        with pytest.raises(ValueError, match=r"`generation_examples` needs validation rows .* among the first 2:"):
            run(recipe, model=str(tiny_model_dir), validation_files=files, generation_examples=2)


def test_test_files_are_measured_once_at_the_end(recipe, tiny_model_dir):
    metrics = run(recipe, model=str(tiny_model_dir), test_files=recipe["train_files"])
    assert metrics["test_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-5)


def test_a_decoder_alone_learns_answers_only(recipe, build_tiny_model, tiny_tokenizer, tmp_path):
    build_tiny_model(KakehashiForCausalLM).save_pretrained(tmp_path / "causal")
    for_causal_lm(tiny_tokenizer).save_pretrained(tmp_path / "causal")
    run(recipe, model=str(tmp_path / "causal"))
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert isinstance(model, KakehashiForCausalLM)
    assert not info["missing_keys"]


def test_another_family_trains_from_its_configuration_by_the_same_recipe(recipe, tiny_tokenizer, tmp_path, capsys):
    T5Config(
        vocab_size=len(tiny_tokenizer),
        d_model=16,
        d_ff=32,
        d_kv=8,
        num_layers=1,
        num_heads=2,
        tie_word_embeddings=False,
    ).save_pretrained(tmp_path / "t5")
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    metrics = run(recipe, model=str(tmp_path / "t5"), tokenizer=str(tmp_path / "tokenizer"), generation_examples=2)
    assert "new T5ForConditionalGeneration (config.json of" in capsys.readouterr().err
    assert metrics["eval_loss"] > 0
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run")
    assert model.generation_config.decoder_start_token_id == tiny_tokenizer.bos_token_id


def test_texts_longer_than_the_model_are_cut_with_one_warning_that_counts(recipe, tiny_model_dir, caplog):
    with caplog.at_level(logging.WARNING):
        metrics = run(recipe, model=str(tiny_model_dir), max_source_length=12, max_steps=1)
    counted = [record.message for record in caplog.records if "longer than 12 tokens" in record.message]
    # Training and validation rows are counted apart.
    assert len(counted) == 2
    assert "of 10 sources" in counted[0]
    assert f"{round(10 * metrics['cut_sources'])} of 10" in counted[0]
    assert metrics["source_length_max"] > 12 and metrics["target_length_p95"] <= metrics["target_length_max"]


def test_an_absent_column_lists_those_present(recipe, tiny_model_dir):
    with pytest.raises(ValueError, match="no column `fr`; the columns present are `en`, `ja`"):
        run(recipe, model=str(tiny_model_dir), source_template=["To Japanese: {fr}", "To English: {ja}"])


def test_a_row_that_cannot_be_read_is_told_by_its_place_in_the_file(recipe, tiny_model_dir, tmp_path):
    objects = [{"en": "a", "ja": 1.5 if index else True} for index in range(20)]
    objects.insert(12, objects.pop(0))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    keys = {"train_files": [str(tmp_path / "rows.jsonl")], "validation_files": None, "validation_split": 0.3}
    for seed in (0, 1):
        with pytest.raises(ValueError, match="Row 13: Column `ja` must hold text, but a value is True"):
            run(recipe, model=str(tiny_model_dir), seed=seed, **keys)


def test_rows_of_no_known_form_say_what_is_missing(recipe, tiny_model_dir):
    for key in ("source_template", "target_template"):
        del recipe[key]
    with pytest.raises(ValueError, match="Instruction rows must have the columns"):
        run(recipe, model=str(tiny_model_dir))


def test_rows_of_messages_and_of_instructions_need_no_template(recipe, tiny_model_dir, tmp_path):
    rows = {
        "messages.jsonl": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]},
        "instruction.jsonl": {"instruction": "Say it", "input": "hi", "output": "hi"},
    }
    for key in ("source_template", "target_template"):
        del recipe[key]
    for name, row in rows.items():
        (tmp_path / name).write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
        files = [str(tmp_path / name)]
        metrics = run(
            recipe,
            model=str(tiny_model_dir),
            train_files=files,
            validation_files=files,
            max_steps=1,
            output_dir=str(tmp_path / name.replace(".", "-")),
        )
        assert torch.isfinite(torch.tensor(metrics["eval_loss"]))


def test_the_configuration_remembers_how_each_task_is_asked(tiny_config):
    sources = ["To Japanese: {en}", "Into Japanese: {en}", "Sum up: {article}", "{question}", "{en} {fr}"]
    targets = ["{ja}", "{ja}", "{summary}", "{answer}", "{de}"]
    tiny_config.task_specific_params = {"translation": {"en": "英訳：{text}"}}
    remember_task_templates(tiny_config, InstructArguments(source_template=sources, target_template=targets))
    assert tiny_config.task_specific_params == {
        "translation": {"en": "英訳：{text}", "ja": "To Japanese: {text}"},
        "summarization": {"template": "Sum up: {text}"},
    }


def test_packed_rows_teach_what_padded_ones_teach(recipe, tiny_model_dir):
    padded = run(recipe, model=str(tiny_model_dir))
    packed = run(
        recipe, model=str(tiny_model_dir), packing=True, packed_length=256, output_dir=recipe["output_dir"] + "-packed"
    )
    # All ten pairs are in each step of both runs.
    assert packed["train_loss"] == pytest.approx(padded["train_loss"], rel=1e-3)


def test_a_decoder_alone_learns_from_packed_rows(recipe, build_tiny_model, tiny_tokenizer, tmp_path):
    build_tiny_model(KakehashiForCausalLM).save_pretrained(tmp_path / "causal")
    for_causal_lm(tiny_tokenizer).save_pretrained(tmp_path / "causal")
    metrics = run(recipe, model=str(tmp_path / "causal"), packing=True)
    assert metrics["steps"] == 4


def test_a_stream_of_instructions_teaches(recipe, tiny_model_dir):
    metrics = run(recipe, model=str(tiny_model_dir), streaming=True, packing=True)
    assert metrics["steps"] == 4
