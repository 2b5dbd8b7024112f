"""What a recipe says that is likely not meant."""

import warnings

import pytest
import torch
from transformers import Seq2SeqTrainingArguments, T5Config

from kakehashi.training.arguments import ClassifyArguments, InstructArguments
from kakehashi.training.check_recipe import RecipeCheck
from kakehashi.training.recipe_warnings import find_warnings


@pytest.fixture
def warn(tmp_path, tiny_config):
    """A function that returns the warnings of a run of 100 steps with some of its numbers changed."""

    def find(arguments=None, device=None, lengths=None, keys=None, config=tiny_config, **changed):
        parts = {
            "data": {
                "train": {"rows": 900, "examples": 1000, "is_packed": False},
                "is_complete": True,
                "lengths": {"source": {"p99": 50, "limit": 64, "cut": 0.0, **(lengths or {})}},
            },
            "step": {"examples": 10, "packing_efficiency": 0.9},
            "run": {"steps": 100},
            "memory": {"total": 1e9, "device": 8e9},
        }
        for name, values in changed.items():
            parts[name] = {**parts[name], **values}
        checked = RecipeCheck(stage="instruct", recipe={}, model={}, time={}, warnings=[], **parts)
        settings = {"output_dir": str(tmp_path / "run"), "save_strategy": "no", **(keys or {})}
        training_arguments = Seq2SeqTrainingArguments(**settings)
        if device is not None:
            training_arguments.__dict__["_setup_devices"] = torch.device(device)
        return find_warnings(checked, arguments or InstructArguments(), training_arguments, config)

    return find


def test_a_sound_recipe_has_none(warn):
    assert warn() == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"lengths": {"cut": 0.25}},
            "25.0% of the sources are longer than 64 tokens and will be cut",
        ),
        ({"lengths": {"limit": 4096}}, "the model is meant for 128 (`max_position_embeddings`)"),
        ({"keys": {"warmup_steps": 80}}, "`warmup_steps` 80 are more than half of the run's 100 steps"),
        (
            {"keys": {"save_strategy": "steps", "save_steps": 500}},
            "`save_steps` 500 are more than the run's 100 steps",
        ),
        ({"keys": {"eval_strategy": "epoch"}}, "no rows are held out: there will be none"),
        ({"step": {"examples": 2000}}, "a step takes 2,000 examples, but there are only 1,000"),
        ({"step": {"packing_efficiency": 0.5}}, "only 50% of the token slots hold tokens; `packing: true`"),
        ({"memory": {"total": 7.9e9}}, "a step needs about 7.4 GiB of the 7.5 GiB there are"),
        ({"data": {"is_complete": False}}, "not all rows were counted"),
    ],
)
def test_what_is_likely_not_meant_is_said(warn, changed, message):
    if "data" in changed:
        changed["data"] |= {"train": {"examples": 1000, "is_packed": False}}
    (warning,) = warn(**changed)
    assert message in warning


def test_the_key_that_saves_memory_is_one_that_transformers_does_not_deprecate(warn):
    (warning,) = warn(memory={"total": 7.9e9})
    key = warning.split("or set `")[1].removesuffix(": true`")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        Seq2SeqTrainingArguments("run", **{key: True})


@pytest.mark.parametrize(
    "unpackable",
    [{"arguments": ClassifyArguments()}, {"config": T5Config()}],
    ids=["a stage without packing", "a model of another family"],
)
def test_what_cannot_be_packed_is_to_have_smaller_batches(warn, unpackable):
    (warning,) = warn(step={"packing_efficiency": 0.5}, **unpackable)
    assert "smaller batches" in warning


def test_what_is_packed_already_is_to_have_shorter_rows(warn):
    (warning,) = warn(arguments=InstructArguments(packing=True), step={"packing_efficiency": 0.05})
    assert warning == "only 5% of the token slots hold tokens; a smaller `packed_length` uses more"


def test_a_folder_that_is_not_empty_is_mentioned(warn, tmp_path):
    (tmp_path / "run").mkdir()
    assert warn() == []
    (tmp_path / "run" / "model.safetensors").touch()
    (warning,) = warn()
    assert "is not empty: the run needs --resume" in warning
    assert warn(arguments=InstructArguments(overwrite=True)) == []
