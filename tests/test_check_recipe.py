"""What is known of a run before it: the stage, the data, the model, the steps, and what is wrong."""

import json

import pytest
import yaml
from transformers import T5Config

from kakehashi.modeling import KakehashiForConditionalGeneration
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.check_recipe import check_recipe, find_stage
from kakehashi.training.instruct import run_instruct
from kakehashi.training.recipe import parse_recipe, read_recipe
from kakehashi.training.recipes import list_recipes


@pytest.fixture
def recipe(tmp_path, tiny_model_dir, tiny_sentences):
    """A recipe for `instruct` on 40 rows, which make 80 examples."""
    rows = list(zip(tiny_sentences[:5], tiny_sentences[5:], strict=True)) * 8
    table = tmp_path / "pairs.tsv"
    table.write_text("en\tja\n" + "".join(f"{en}\t{ja}\n" for en, ja in rows), encoding="utf-8")
    return {
        "model": str(tiny_model_dir),
        "train_files": [str(table)],
        "source_template": ["Translate to Japanese: {en}", "Translate to English: {ja}"],
        "target_template": ["{ja}", "{en}"],
        "max_source_length": 64,
        "max_target_length": 32,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }


@pytest.fixture
def check(tmp_path, recipe):
    """A function that checks the recipe with some of its keys changed."""

    def check_with(stage=None, **keys):
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({key: value for key, value in {**recipe, **keys}.items() if value is not None}))
        return check_recipe(str(file), {}, stage=stage)

    return check_with


def test_steps_tokens_and_parameters_are_those_of_the_run(check, recipe, tiny_model):
    checked = check()
    metrics = run_instruct(*parse_recipe(InstructArguments, recipe))
    assert checked.stage == "instruct"
    assert checked.data["train"] == {"rows": 40, "examples": 80, "is_packed": False}
    assert checked.run["steps"] == metrics["steps"] == 20
    assert checked.run["tokens"] == pytest.approx(metrics["num_tokens_seen"])
    assert checked.step["packing_efficiency"] == pytest.approx(metrics["packing_efficiency"], rel=0.05)
    assert checked.run["steps"] * checked.step["flops"] == pytest.approx(metrics["model_flops"])
    assert checked.model["parameters"] == tiny_model.num_parameters()
    assert checked.memory["total"] > 0 and checked.time["seconds"] > 0


def test_what_fills_no_batch_is_no_step_where_it_is_left_out(check):
    assert check(per_device_train_batch_size=32).run["steps_per_epoch"] == 3
    assert check(per_device_train_batch_size=32, dataloader_drop_last=True).run["steps_per_epoch"] == 2


def test_packed_rows_are_counted_as_the_run_packs_them(check):
    checked = check(packing=True, attn_implementation="sdpa")
    assert checked.data["train"]["is_packed"]
    assert checked.data["train"]["examples"] < 40
    assert checked.step["packing_efficiency"] > 0.8


def test_nothing_is_written(check, tmp_path):
    check()
    assert not (tmp_path / "run").exists()


def test_lengths_are_told_before_anything_is_cut(check):
    lengths = check(max_source_length=12).data["lengths"]
    assert lengths["source"]["limit"] == 12
    assert lengths["source"]["max"] > 12
    assert lengths["source"]["cut"] > 0.5
    assert lengths["target"]["cut"] == 0.0
    assert lengths["source"]["p50"] <= lengths["source"]["p95"] <= lengths["source"]["max"]


def test_a_time_budget_ends_the_run_and_a_share_is_held_out(check):
    checked = check(max_minutes=0.01, num_train_epochs=None, validation_split=0.25)
    assert checked.data["validation"]["rows"] == 10
    assert checked.data["train"]["rows"] == 30
    assert checked.time["seconds"] == pytest.approx(0.6, rel=0.5)
    assert checked.run["steps"] > 0


def test_with_a_time_budget_epochs_end_the_run_only_where_they_are_given(check):
    assert check(max_minutes=600, num_train_epochs=3).run["steps"] == 30
    assert check(max_minutes=600, num_train_epochs=None).run["steps"] > 1000


def test_the_other_stages_are_checked_too(check, recipe):
    instruct = dict.fromkeys(["source_template", "target_template", "max_source_length", "max_target_length"])
    pretrain = check("pretrain", **instruct, text_column="en", objective="masked-lm", max_length=6)
    assert pretrain.model["class"] == "KakehashiForMaskedLM"
    assert pretrain.data["lengths"]["document"]["split"] > 0
    assert pretrain.data["train"]["examples"] > pretrain.data["train"]["rows"]
    classify = check("classify", **instruct, text_column="en", label_column="ja", max_length=6)
    assert classify.model["head"] == 5 * 32
    assert classify.data["notes"] == ["single_label_classification, 5 labels in the sample"]
    # All rows were read, so that there is no such label.
    with pytest.raises(ValueError, match="`class_weights` must name labels of the training rows, got 'spam'"):
        check("classify", **instruct, text_column="en", label_column="ja", class_weights={"spam": 2})


@pytest.mark.parametrize(
    ("keys", "parts", "trained", "tested"),
    [
        ({"folds": 5}, 5, 32, 8),
        ({"shots": 2, "seeds": 3}, 3, 10, 30),
        ({"shots": 4}, 5, 20, 20),
        ({"shots": 100, "seeds": 1, "test_files": True}, 1, 40, 40),
    ],
)
def test_folds_and_shots_are_several_runs_on_a_part_of_the_rows(check, recipe, keys, parts, trained, tested):
    instruct = dict.fromkeys(["source_template", "target_template", "max_source_length", "max_target_length"])
    if "test_files" in keys:
        keys = {**keys, "test_files": recipe["train_files"]}
    checked = check("classify", **instruct, text_column="en", label_column="ja", **keys)
    assert checked.data["train"]["rows"] == checked.data["train"]["examples"] == trained
    assert checked.data["test"]["rows"] == tested
    assert checked.run["parts"] == parts
    assert checked.run["steps"] == 2 * -(-trained // 8)
    assert checked.time["seconds"] == pytest.approx(parts * checked.run["steps"] * checked.time["seconds_per_step"])


def test_a_few_steps_are_timed_if_asked_for(tmp_path, recipe, check):
    check()
    checked = check_recipe(str(tmp_path / "recipe.yaml"), {"max_steps": "3"}, measure=True)
    assert checked.time["measured_steps"] > 0
    assert 0 < checked.time["utilization"] < 1
    assert checked.run["steps"] == 3


def test_frozen_parts_and_other_families_are_known(check, tmp_path, tiny_tokenizer):
    frozen = check(freeze_encoder=True)
    assert frozen.model["trained_parameters"] < frozen.model["parameters"]
    assert frozen.step["flops"] < check().step["flops"]
    sizes = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    T5Config(vocab_size=len(tiny_tokenizer), **sizes).save_pretrained(tmp_path / "t5")
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    other = check(model=str(tmp_path / "t5"), tokenizer=str(tmp_path / "tokenizer"))
    assert other.memory["activations"] is None
    assert other.step["flops"] > 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train_files": ["none.tsv"]}, r"none\.tsv"),
        ({"source_template": ["{fr}", "{ja}"]}, "no column `fr`; the columns present are `en`, `ja`"),
        ({"early_stopping_patience": 1}, "`early_stopping_patience` needs rows to validate on"),
        ({"report_to": "tensorbord"}, "did you mean `tensorboard`"),
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` must be 0 in this stage, got 0.1"),
        ({"model": "none/none/none"}, "`model` must be a folder with"),
        (
            {"dataloader_drop_last": True, "per_device_train_batch_size": 81},
            "fills no batch, got 80 examples for a ba",
        ),
        ({"max_step": 3}, "`max_step` is not a recipe key; did you mean `max_steps`"),
        ({"freeze": ["nothing"]}, "nothing"),
        ({"attn_implementation": "nonsense"}, "`attn_implementation` 'nonsense' cannot be used"),
        ({"streaming": True}, "`max_steps` or `max_minutes` must be given where `streaming` is true"),
        ({"train_files": None}, "`train_files` must name at least one"),
    ],
)
def test_what_keeps_a_run_from_starting_is_said_as_the_run_would(check, keys, message):
    with pytest.raises(ValueError, match=message):
        check(**keys)


def test_every_shipped_recipe_tells_its_stage():
    expected = {"tatoeba": "instruct", "instruct": "instruct", "classify": "classify"}
    for name in list_recipes():
        stem = name.removesuffix(".yaml").removeprefix("quickstart-")
        assert find_stage(read_recipe(name), name) == expected.get(stem, "pretrain"), name


def test_a_recipe_that_fits_several_stages_asks_for_one(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("output_dir: run\nmax_source_length: 8\n")
    with pytest.raises(ValueError, match=r"`--stage` must say .* its keys fit pretrain and instruct"):
        find_stage(read_recipe(file), str(file))
    assert find_stage(read_recipe(file), str(file), "instruct") == "instruct"
    file.write_text("# kakehashi pretrain recipe.yaml\noutput_dir: run\nmax_source_length: 8\n")
    assert find_stage(read_recipe(file), str(file)) == "pretrain"
    with pytest.raises(ValueError, match="`--stage` must be one of pretrain, instruct, classify, got 'tune'"):
        find_stage({}, str(file), "tune")


def test_a_new_model_is_built_without_weights(check, tmp_path, tiny_tokenizer, monkeypatch):
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    built = []
    init = KakehashiForConditionalGeneration.__init__

    def note(self, config):
        init(self, config)
        built.append(next(self.parameters()).is_meta)

    monkeypatch.setattr(KakehashiForConditionalGeneration, "__init__", note)
    checked = check(model=None, preset="large", tokenizer=str(tmp_path / "tokenizer"))
    assert built == [True]
    assert checked.model["parameters"] > 300e6
    assert json.dumps(checked.as_dict(), default=str)
