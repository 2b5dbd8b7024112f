"""A model card says what the run folder says."""

import json
import re

import pytest
from huggingface_hub import ModelCard
from stand_in_hub import find_card_errors

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiModel,
)
from kakehashi.training.evaluations import Measurement, keep_measurement, read_measurements
from kakehashi.training.finished_run import count_stored_parameters
from kakehashi.training.model_card import cell, code, to_eval_results, write_model_card

TRANSLATION = {"translation": {"ja": "Translate to Japanese: {text}"}}


def test_the_card_is_filled_from_the_run(finish_run):
    folder = finish_run(recipe={"data_license": ["CC BY 2.0 FR"], "data_revision": ["2024-05"]})
    path = write_model_card(folder, name="user/first")
    text = path.read_text("utf-8")
    assert path == folder / "README.md"
    assert "| `eval_exact_match` | 0.9123 |" in text
    assert "| `eval_loss` | 1e-05 |" in text
    assert "| `train_examples` | 50,000 |" in text
    assert "| `rate` | 11,593 |" in text
    assert "| `learning_rate` | `0.003` |" in text
    assert "| training | `pairs.tsv`, `user/pairs` |" in text
    assert "| `pairs.tsv` | 2024-05 | CC BY 2.0 FR |" in text
    assert "It took 1 h 2 min 5 s." in text
    assert "| cpu cores | 2 |" in text
    assert "![Loss during training](loss.png)" in text
    assert "{{" not in text and "{%" not in text


def test_a_card_says_whether_data_that_it_does_not_name_came_before(finish_run):
    nothing_else, alone = "learned from the data named below and from nothing else", "学習したのは上記のデータだけです"
    text = write_model_card(finish_run()).read_text("utf-8")
    assert nothing_else in text and alone in text
    text = write_model_card(finish_run(recipe={"model": "/home/someone/pretrained"})).read_text("utf-8")
    assert "It started from `pretrained`, whose own data is not named here" in text
    assert "`pretrained` を出発点に、上記のデータだけで追加学習しました。" in text
    assert nothing_else not in text and alone not in text


def test_a_card_with_numbers_of_test_rows_does_not_say_that_nothing_was_measured(finish_run):
    folder, nothing = finish_run(), "Nothing was measured on held-out data after training."
    assert nothing in write_model_card(folder).read_text("utf-8")
    (folder / "metrics.json").write_text(json.dumps({"test_accuracy": 0.75}), "utf-8")
    text = write_model_card(folder).read_text("utf-8")
    assert nothing not in text and "| `test_accuracy` | 0.75 |" in text


@pytest.mark.parametrize(
    ("keys", "among"), [({"folds": 3}, "3 folds"), ({"shots": 2, "seeds": 5}, "5 runs on 2 rows of each label")]
)
def test_a_part_of_several_runs_says_which_rows_it_had(finish_run, keys, among):
    folder = finish_run()
    part = {"name": "part-2", "train_rows": 20, "of_rows": 3000, "keys": {**keys, "seed": 42}}
    (folder / "metrics.json").write_text(json.dumps({"part": part}), "utf-8")
    text = write_model_card(folder).read_text("utf-8")
    assert f"It is `part-2` of {among}: it learned from 20 of the 3,000 training rows." in text


def test_intended_use_and_limits_come_first(finish_run):
    text = write_model_card(finish_run()).read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.M)[0] == "Intended use and limits"


def test_the_metadata_is_what_the_hub_reads(finish_run):
    data = ModelCard.load(write_model_card(finish_run())).data
    assert data.library_name == "transformers"
    assert data.license == "apache-2.0"
    assert data.language == ["en", "ja"]
    assert data.datasets == ["user/pairs"]
    assert data.base_model is None


def test_the_metadata_names_what_is_on_the_hub_as_the_hub_does(finish_run):
    recipe = {"model": "Qwen/Qwen2.5-0.5B", "train_files": ["user/pairs:en-ja"]}
    data = ModelCard.load(write_model_card(finish_run(recipe=recipe))).data
    assert data.base_model == "Qwen/Qwen2.5-0.5B" and data.datasets == ["user/pairs"]
    for into, config in [(None, "en-ja"), ("ja", "en-ja-to-ja")]:
        (result,) = to_eval_results(Measurement("generation", ["user/pairs:en-ja"], 3, {"chrf": 0.5}, into))
        assert (result.dataset_type, result.dataset_config) == ("user/pairs", config)


def test_the_card_names_no_folder_of_the_machine(finish_run):
    assert "someone" not in write_model_card(finish_run()).read_text("utf-8")


def test_a_card_without_the_licence_of_the_data_says_so(finish_run):
    assert "| `user/pairs` | not stated | not stated: find out" in write_model_card(finish_run()).read_text("utf-8")


def test_the_card_counts_a_tied_weight_once(finish_run, build_tiny_model):
    folder = finish_run()
    model = build_tiny_model(KakehashiForConditionalGeneration)
    assert count_stored_parameters(folder) == sum(weight.numel() for weight in model.parameters())
    assert f"{count_stored_parameters(folder):,} parameters" in write_model_card(folder).read_text("utf-8")


@pytest.mark.parametrize(
    ("model_class", "stage", "settings"),
    [
        (KakehashiForConditionalGeneration, "instruct", {}),
        (KakehashiForConditionalGeneration, "instruct", {"task_specific_params": TRANSLATION}),
        (KakehashiForConditionalGeneration, "pretrain", {}),
        (KakehashiForCausalLM, "pretrain", {"is_encoder_decoder": False, "is_decoder": True}),
        (KakehashiForMaskedLM, "pretrain", {"is_encoder_decoder": False}),
        (KakehashiForSequenceClassification, "classify", {"is_encoder_decoder": False, "num_labels": 3}),
        (
            KakehashiForSequenceClassification,
            "classify",
            {"num_labels": 3, "problem_type": "multi_label_classification"},
        ),
        (KakehashiForSequenceClassification, "classify", {"num_labels": 1, "problem_type": "regression"}),
    ],
)
def test_the_code_on_the_card_runs(finish_run, capsys, model_class, stage, settings):
    folder = finish_run(model_class, stage, **settings)
    text = write_model_card(folder, name=str(folder)).read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert ("apply_chat_template" in code) == (stage == "instruct")
    exec(code, {})
    assert capsys.readouterr().out.count("\n") >= 1


@pytest.mark.parametrize("name", ["config.json", "recipe.yaml", "versions.json", "metrics.json", "model.safetensors"])
def test_a_card_without_a_run_is_refused(finish_run, name):
    folder = finish_run()
    (folder / name).unlink()
    missing = "weights" if name == "model.safetensors" else re.escape(name)
    with pytest.raises(ValueError, match=rf"`run_dir` must be the folder of a finished run, got .* without {missing}"):
        write_model_card(folder)
    assert not (folder / "README.md").exists()


def test_evaluations_become_what_the_hub_calls_a_model_index(finish_run):
    folder = finish_run()
    settings = {"num_beams": 4, "max_new_tokens": 64}
    scores = {"exact_match": 0.25, "chrf": 0.4321, "bleu": 0.1}
    keep_measurement(folder, Measurement("generation", ["test.tsv"], 1848, scores, "ja", settings, "2026-01-02"))
    keep_measurement(folder, Measurement("generation", ["test.tsv"], 1848, scores, "en", settings, "2026-01-02"))
    keep_measurement(folder, Measurement("perplexity", ["user/text"], 9, {"perplexity": 7.5, "predicted_tokens": 80}))
    text = write_model_card(folder, name="user/first").read_text("utf-8")
    row = (
        "| translation into ja | `test.tsv` | 1,848 | num_beams 4, max_new_tokens 64 | `chrf` | 0.4321 | 2026-01-02 |"
    )
    assert row in text
    results = ModelCard(text).data.eval_results
    # The card's own metadata, read back, says what was measured and nothing else.
    kept = [result for each in read_measurements(folder) for result in to_eval_results(each)]
    assert results == kept and len(results) == 7
    assert {(each.task_type, each.dataset_type, each.dataset_config) for each in results} == {
        ("translation", "test.tsv", "to-ja"),
        ("translation", "test.tsv", "to-en"),
        ("text-generation", "user/text", None),
    }
    assert find_card_errors(text) == []


def test_each_number_in_the_metadata_keeps_its_own_settings(finish_run):
    folder = finish_run()
    for settings in ({"label_column": "label"}, {"label_column": "topic"}):
        keep_measurement(folder, Measurement("classification", ["test.tsv"], 3, {"accuracy": 0.5}, settings=settings))
    results = ModelCard.load(write_model_card(folder)).data.eval_results
    assert [each.metric_args["label_column"] for each in results] == ["label", "topic"]


def test_the_hub_takes_the_metadata(finish_run, hub):
    folder = finish_run(recipe={"datasets": ["user/pairs"]})
    keep_measurement(folder, Measurement("classification", ["user/pairs"], 3, {"accuracy": 0.5, "macro_f1": 0.4}))
    card = ModelCard.load(write_model_card(folder))
    card.validate()
    assert card.data.datasets == ["user/pairs"] and card.data.metrics == ["accuracy", "f1"]
    card.data.license = "Apache 2.0"
    with pytest.raises(ValueError, match=r"license.* must match"):
        card.validate()


def test_numbers_of_other_weights_are_left_out(finish_run, build_tiny_model):
    folder = finish_run()
    keep_measurement(folder, Measurement("generation", ["test.tsv"], 3, {"chrf": 0.4321}))
    finish_run(num_encoder_layers=1)
    text = write_model_card(folder).read_text("utf-8")
    assert "0.4321" not in text and "Nothing was measured on held-out data" in text


def test_a_japanese_model_has_a_japanese_section_and_others_have_none(finish_run):
    folder = finish_run()
    keep_measurement(folder, Measurement("generation", ["test.tsv"], 3, {"chrf": 0.4321}, "ja"))
    text = write_model_card(folder).read_text("utf-8")
    section = text.partition("## 日本語")[2]
    assert "モデルの重みのライセンスは `apache-2.0` です。" in section
    assert "### 用途と限界" in section and "| `test.tsv` | 3 | `chrf` | 0.4321 |" in section
    assert "## 日本語" not in write_model_card(finish_run(recipe={"language": ["en"]})).read_text("utf-8")


def test_a_japanese_section_says_in_japanese_that_no_licence_is_stated(finish_run):
    section = write_model_card(finish_run(recipe={"license": None})).read_text("utf-8").partition("## 日本語")[2]
    assert "モデルの重みのライセンスは記載されていません。" in section and "not stated" not in section


def test_pictures_that_the_run_listed_are_shown_with_the_loss_first(finish_run):
    folder = finish_run()
    (folder / "gradient_norm.png").write_bytes((folder / "loss.png").read_bytes())
    (folder / "holiday.png").write_bytes(b"")
    (folder / "run_files.json").write_text(json.dumps(["gradient_norm.png", "loss.png", "config.json"]), "utf-8")
    text = write_model_card(folder).read_text("utf-8")
    pictures = ["![Loss during training](loss.png)", "![Gradient norm](gradient_norm.png)"]
    assert re.findall(r"!\[.*", text) == pictures


def test_bars_and_backticks_do_not_end_a_cell(finish_run):
    recipe = {"source_template": "a|b {en}", "train_files": ["/x/a|b`c.jsonl"], "data_license": ["CC|BY"]}
    folder = finish_run(recipe=recipe)
    settings = {"text_column": "a|b"}
    keep_measurement(folder, Measurement("perplexity", ["t|``"], 3, {"loss": 0.5}, settings=settings))
    text = write_model_card(folder).read_text("utf-8")
    assert "| `source_template` | `a\\|b {en}` |" in text
    assert text.count("| `` a\\|b`c.jsonl `` | ") == 2  # In both languages.
    assert "| training | `` a\\|b`c.jsonl `` |" in text and " | CC\\|BY |" in text
    assert text.count("| ``` t\\|`` ``` | 3 |") == 2 and "| text_column a\\|b |" in text


def test_text_of_a_cell_stays_in_it():
    assert cell("a | b\nc") == "a \\| b c" and cell(2) == "2"
    assert code("a", "b|c", "`d``e") == "`a`, `b\\|c`, ``` `d``e ```"


def test_a_secret_of_the_recipe_is_on_no_card(finish_run):
    text = write_model_card(finish_run(recipe={"hub_token": "hf_secret", "run_name": "of-me"})).read_text("utf-8")
    assert "hf_secret" not in text and "of-me" not in text


def test_a_model_without_a_head_has_no_card(finish_run):
    with pytest.raises(ValueError, match=r"must be one of KakehashiForConditionalGeneration, .* got KakehashiModel"):
        write_model_card(finish_run(KakehashiModel))
