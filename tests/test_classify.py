"""Classification from labelled rows to a model that answers with names."""

import copy
import json
import logging
import re

import pytest
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from kakehashi.training.arguments import ClassifyArguments
from kakehashi.training.classify import run_classify
from kakehashi.training.inference import load_for_classification
from kakehashi.training.labelling import classify_texts, label_texts
from kakehashi.training.recipe import parse_recipe


def write_table(path, rows):
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    return [str(path)]


@pytest.fixture
def rows(tiny_sentences):
    return [(text, "en" if index < 5 else "ja") for index, text in enumerate(tiny_sentences)]


@pytest.fixture
def recipe(tmp_path, tiny_model_dir, rows):
    files = write_table(tmp_path / "rows.tsv", rows)
    return {
        "model": str(tiny_model_dir),
        "train_files": files,
        "validation_files": files,
        "max_steps": 2,
        "max_length": 64,
        "learning_rate": 0.003,
        "per_device_train_batch_size": 10,
        "logging_steps": 2,
        "save_strategy": "no",
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }


def run(recipe, **keys):
    return run_classify(*parse_recipe(ClassifyArguments, {**recipe, **keys}))


def test_texts_are_told_apart_by_name(recipe, tmp_path, tiny_sentences, capsys):
    metrics = run(recipe, max_steps=40, test_files=recipe["train_files"])
    assert metrics["eval_accuracy"] == metrics["eval_macro_f1"] == metrics["test_accuracy"] == 1.0
    model, tokenizer = load_for_classification(tmp_path / "run")
    assert model.config.id2label == {0: "en", 1: "ja"}
    assert model.config.label2id == {"en": 0, "ja": 1}
    answers = classify_texts(model, tokenizer, tiny_sentences)
    assert [label for label, _ in answers] == ["en"] * 5 + ["ja"] * 5
    told = capsys.readouterr().err
    assert told.count("KakehashiForSequenceClassification") == 1
    assert "new, to be trained: score" in told
    assert "You should probably TRAIN" not in told


def test_a_classifier_gets_other_classes(recipe, tmp_path, rows):
    run(recipe)
    files = write_table(tmp_path / "other.tsv", [(text, f"class {index % 3}") for index, (text, _) in enumerate(rows)])
    second = str(tmp_path / "second")
    run(recipe, model=str(tmp_path / "run"), train_files=files, validation_files=files, output_dir=second)
    assert AutoModelForSequenceClassification.from_pretrained(second).config.num_labels == 3


def test_a_single_label_is_refused(recipe, tmp_path, rows):
    files = write_table(tmp_path / "single.tsv", [(text, "same") for text, _ in rows])
    with pytest.raises(ValueError, match=r"at least two different labels, .*`same`"):
        run(recipe, train_files=files)


def test_a_label_that_only_the_test_rows_have_is_told_before_training(recipe, tmp_path, rows, monkeypatch):
    files = write_table(tmp_path / "test.tsv", [*rows, ("新しい。", "zh")])
    monkeypatch.setattr("kakehashi.training.classify.train", lambda *_: pytest.fail("trained in vain"))
    with pytest.raises(ValueError, match=r"test\.tsv: Every label in `label` .*row 11 has 'zh'; known are `en`, `ja`"):
        run(recipe, test_files=files)


def test_a_label_of_one_row_may_be_held_out(recipe, tmp_path, rows):
    files = write_table(tmp_path / "rare.tsv", [*rows, ("a rare one", "rare")])
    keys = {"train_files": files, "validation_files": None, "validation_split": 0.9}
    run(recipe, **keys)
    assert load_for_classification(tmp_path / "run")[0].config.id2label == {0: "en", 1: "ja", 2: "rare"}


def test_a_row_without_a_label_is_told_by_its_place_in_the_file(recipe, tmp_path, rows):
    objects = [{"text": text, "label": label} for text, label in rows]
    objects[6]["label"] = None
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    keys = {"train_files": [str(tmp_path / "rows.jsonl")], "validation_files": None, "validation_split": 0.3}
    for seed in (0, 1):
        with pytest.raises(ValueError, match="but row 7 has none"):
            run(recipe, seed=seed, **keys)


def test_a_row_without_a_text_is_told_by_its_place_in_the_file(recipe, tmp_path, rows):
    objects = [{"text": text, "label": label} for text, label in rows]
    objects[6]["text"] = None
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    keys = {"train_files": [str(tmp_path / "rows.jsonl")], "validation_files": None}
    for division in ({"validation_split": 0.3}, {"folds": 2}, {"shots": 1, "seeds": 1}):
        with pytest.raises(ValueError, match="must have a text in `text`, but row 7 has none"):
            run(recipe, **division, **keys)


def test_an_absent_column_lists_those_present(recipe):
    with pytest.raises(ValueError, match="has no column `topic`; the columns present are `text`, `label`"):
        run(recipe, label_column="topic")


def test_texts_longer_than_the_model_are_cut_with_one_warning_that_counts(recipe, caplog):
    del recipe["validation_files"]
    with caplog.at_level(logging.WARNING):
        metrics = run(recipe, max_length=8)
    counted = [record.message for record in caplog.records if "longer than 8 tokens" in record.message]
    assert len(counted) == 1
    assert "eval_loss" not in metrics


def test_encoder_decoders_of_other_families_learn_and_are_validated(recipe, tmp_path, tiny_tokenizer):
    shape = {"vocab_size": len(tiny_tokenizer), "d_model": 16, "pad_token_id": 0, "eos_token_id": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    start = {"decoder_start_token_id": 0}
    models = {
        "t5": T5ForConditionalGeneration(T5Config(**shape, **start, d_ff=32, d_kv=8, num_layers=1, num_heads=2)),
        "bart": BartForConditionalGeneration(BartConfig(**shape, **layers, max_position_embeddings=64)),
    }
    # T5's tokenizer has no mark of a beginning.
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.bos_token = None
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        metrics = run(recipe, model=str(tmp_path / name), output_dir=str(tmp_path / f"{name}-run"))
        assert 0 <= metrics["eval_accuracy"] <= 1


def test_texts_beyond_the_positions_that_a_model_has_learned_are_refused(recipe, tmp_path, tiny_tokenizer):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(tiny_tokenizer), **shape, max_position_embeddings=16)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    tiny_tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="`max_length` must be at most 16, the positions that BertForSequenceClas"):
        run(recipe, model=str(tmp_path / "bert"))
    run(recipe, model=str(tmp_path / "bert"), max_length=16)


def test_decimal_labels_are_met_as_numbers(recipe, tmp_path, rows):
    lines = "".join(f'{{"text": "{text}", "label": {index / 4}}}\n' for index, (text, _) in enumerate(rows))
    (tmp_path / "numbers.jsonl").write_text(lines, encoding="utf-8")
    files = [str(tmp_path / "numbers.jsonl")]
    metrics = run(recipe, train_files=files, validation_files=files)
    assert {"eval_mse", "eval_mae", "eval_pearson", "eval_spearman"} < set(metrics) and "eval_accuracy" not in metrics
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").config
    assert (config.problem_type, config.num_labels) == ("regression", 1)


def test_a_size_other_than_that_of_the_weights_is_refused(recipe):
    with pytest.raises(ValueError, match="`config_overrides` must keep the sizes of the weights in"):
        run(recipe, config_overrides={"intermediate_size": 48})


def test_lists_of_labels_are_measured_by_their_own_numbers(recipe, tmp_path, rows):
    lines = [{"text": text, "label": [label, "all"] if label == "en" else []} for text, label in rows]
    (tmp_path / "lists.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    files = [str(tmp_path / "lists.jsonl")]
    keys = {
        "train_files": files,
        "validation_files": files,
        "class_weights": "balanced",
        "label_smoothing_factor": 0.1,
    }
    metrics = run(recipe, max_steps=40, **keys)
    assert metrics["eval_micro_f1"] == metrics["eval_macro_f1"] == metrics["eval_exact_match"] == 1.0
    model, tokenizer = load_for_classification(tmp_path / "run")
    english, japanese = label_texts(model, tokenizer, [rows[0][0], rows[-1][0]])
    assert {label for label, _ in english} == {"all", "en"} and japanese == []


def test_weights_of_labels_change_what_is_learnt(recipe, capsys):
    losses = [run(recipe, overwrite=True, class_weights=weights)["train_loss"] for weights in (None, {"en": 5})]
    assert losses[1] > 2 * losses[0]
    with pytest.raises(
        ValueError, match="`class_weights` must name labels of the training rows, got 'eng'; nearest: 'en'"
    ):
        run(recipe, overwrite=True, class_weights="{eng: 2}")
    for weights, message in [
        ("balance", "`class_weights` must be a mapping such as {spam: 5} or the word balanced, got 'balance'"),
        ({"en": 0}, "`class_weights` must be positive numbers, got 0 for 'en'"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            run(recipe, overwrite=True, class_weights=weights)


def test_r_drop_sees_each_text_twice_and_adds_how_far_its_answers_are_apart(recipe, tmp_path):
    keys = {"overwrite": True, "config_overrides": {"dropout": 0.5}, "logging_steps": 1, "max_steps": 1}
    once, far, twice = (run(recipe, **keys, r_drop_alpha=alpha) for alpha in (0, 1e-9, 100))
    assert far["num_tokens_seen"] == twice["num_tokens_seen"] == 2 * once["num_tokens_seen"]
    assert twice["train_loss"] > far["train_loss"] + 1
    # Validation reads each text once, and asks for the label alone.
    assert twice["eval_loss"] < twice["train_loss"] / 2
    assert "dropout: 0.5" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_r_drop_of_a_model_that_drops_nothing_is_refused(recipe):
    with pytest.raises(ValueError, match="must have some, got none: add `config_overrides: "):
        run(recipe, r_drop_alpha=1)
    for alpha in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`r_drop_alpha` must be a number from 0 on, got"):
            run(recipe, r_drop_alpha=alpha)


def test_hidden_tokens_are_those_of_training_alone(recipe):
    keys = {"overwrite": True, "logging_steps": 1, "max_steps": 1, "learning_rate": 0.0}
    plain, hidden, other = (
        run(recipe, **keys, mask_probability=share, seed=seed) for share, seed in ((0, 0), (0.9, 0), (0.9, 1))
    )
    losses = [metrics["train_loss"] for metrics in (plain, hidden, other)]
    assert len(set(losses)) == 3
    assert plain["eval_loss"] == hidden["eval_loss"]
    # Answers differ by what is hidden, so that no dropout is needed.
    assert run(recipe, **keys, mask_probability=0.9, r_drop_alpha=100)["train_loss"] > hidden["train_loss"]
    for share in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="`mask_probability` must be at least 0 and below 1, got"):
            run(recipe, mask_probability=share)


def test_the_best_model_is_chosen_by_a_number_the_labels_give(recipe):
    with pytest.raises(ValueError, match="`metric_for_best_model` must be one of loss, accuracy, macro_f1 for single"):
        run(recipe, metric_for_best_model="mse")


def test_a_frozen_encoder_trains_the_head_alone(recipe, tmp_path, tiny_model, capsys):
    metrics = run(recipe, freeze_encoder=True)
    assert metrics["trained_parameters"] == 2 * tiny_model.config.hidden_size
    assert "training 64 of " in capsys.readouterr().err
    trained = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").state_dict()
    kept = tiny_model.state_dict()
    assert all(weight.equal(kept[name]) for name, weight in trained.items() if name != "score.weight")
