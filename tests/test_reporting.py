"""What a run reports to: known, installed, and given all the numbers."""

import importlib.util
import json

import pytest
from transformers import Seq2SeqTrainingArguments, TrainerCallback
from transformers.integrations import integration_utils

from kakehashi.training import reporting
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.instruct import run_instruct
from kakehashi.training.recipe import parse_recipe
from kakehashi.training.reporting import check_reporters

OURS = {"tokens_per_second", "num_tokens_seen", "packing_efficiency", "model_flops_utilization"}


SEEN = []


class StandInReporter(TrainerCallback):
    """Notes what a reporter is given at each log."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        SEEN.append(set(logs))


@pytest.fixture
def recipe(tmp_path, tiny_model_dir, tiny_sentences):
    rows = [{"instruction": text, "output": text} for text in tiny_sentences]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return {
        "model": str(tiny_model_dir),
        "train_files": [str(tmp_path / "rows.jsonl")],
        "max_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }


def run(recipe, **keys):
    return run_instruct(*parse_recipe(InstructArguments, {**recipe, **keys}))


def test_reporters_are_given_our_numbers_too(recipe, monkeypatch):
    SEEN.clear()
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", StandInReporter)
    monkeypatch.setattr(reporting, "get_available_reporting_integrations", lambda: ["tensorboard"])
    run(recipe, report_to="tensorboard")
    steps = [names for names in SEEN if "loss" in names]
    assert len(steps) == 2
    assert all(names >= OURS for names in steps)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_writes_our_numbers_into_the_run_folder(recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(recipe, report_to="tensorboard")
    (written,) = (tmp_path / "run" / "runs").iterdir()
    events = EventAccumulator(str(written))
    events.Reload()
    assert {f"train/{name}" for name in OURS} <= set(events.Tags()["scalars"])
    # The folder is the run's own, so that another run may take its place.
    run(recipe, report_to="tensorboard", overwrite=True)
    assert len(list((tmp_path / "run" / "runs").iterdir())) == 1


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("trackio", "trackio"), ("comet_ml", "comet-ml")])
def test_a_package_that_is_not_installed_is_named_before_anything_is_read(
    recipe, tmp_path, monkeypatch, name, package
):
    monkeypatch.setattr(reporting, "get_available_reporting_integrations", lambda: [])
    with pytest.raises(ValueError, match=f"`report_to` {name} needs the package {package}, .* pip install {package}"):
        run(recipe, report_to=name, train_files=["none.jsonl"])
    assert not (tmp_path / "run").exists()


def test_an_unknown_name_is_answered_with_the_nearest_one(tmp_path):
    arguments = Seq2SeqTrainingArguments(output_dir=str(tmp_path), report_to=["tensorbord"])
    with pytest.raises(ValueError, match="got 'tensorbord'; did you mean `tensorboard`"):
        check_reporters(arguments)
    arguments.report_to = []
    check_reporters(arguments)
