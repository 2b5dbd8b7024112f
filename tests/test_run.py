"""A whole run with a tiny model: what it leaves, and what it does when something goes wrong."""

import errno
import json
import shutil
import signal

import pytest
import torch
from datasets import Dataset
from safetensors import SafetensorError
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, TrainerCallback

from kakehashi.tokenization.chat import encode_source, encode_target
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.checkpoints import is_disk_full
from kakehashi.training.collators import Seq2SeqCollator
from kakehashi.training.recipe import parse_recipe, read_recipe, resolved_recipe
from kakehashi.training.run import TrainingInterrupted, build_run, finish_run, train
from kakehashi.training.run_folder import RESUME_NEWEST, open_run_folder
from kakehashi.training.trainer import mean_loss

RECIPE = {
    "preset": "nano",
    "max_steps": 6,
    "save_steps": 2,
    "logging_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "disable_tqdm": True,
    "seed": 0,
}


class DoAtStep(TrainerCallback):
    """Does something at the end of a step."""

    def __init__(self, step, action):
        self.step = step
        self.action = action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action(kwargs["model"])


@pytest.fixture
def examples(tiny_tokenizer, tiny_sentences):
    rows = []
    for english, japanese in zip(tiny_sentences[:5], tiny_sentences[5:], strict=True):
        source = encode_source(tiny_tokenizer, [{"role": "user", "content": english}])
        target = encode_target(tiny_tokenizer, japanese)
        rows.append({"input_ids": source, "labels": target})
    return Dataset.from_list(rows)


@pytest.fixture
def start(tmp_path, tiny_model, tiny_tokenizer, examples):
    """A function that opens a run folder and returns the run and the checkpoint to go on from."""

    def start_run(watcher=None, **keys):
        recipe = {**RECIPE, "output_dir": str(tmp_path / "run"), **keys}
        arguments, training_arguments = parse_recipe(InstructArguments, recipe)
        checkpoint = open_run_folder(arguments, training_arguments)
        run = build_run(
            "instruct",
            arguments,
            training_arguments,
            model=tiny_model,
            tokenizer=tiny_tokenizer,
            train_dataset=examples,
            validation_dataset=examples,
            test_dataset=None,
            data_collator=Seq2SeqCollator(tiny_tokenizer),
        )
        if watcher is not None:
            run.trainer.add_callback(watcher)
        return run, checkpoint

    return start_run


@pytest.fixture
def reset(tiny_model):
    """A function that gives the tiny model its first weights again, as a new process would."""
    first = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    return lambda: tiny_model.load_state_dict(first)


def weights(run):
    return {name: value.clone() for name, value in run.trainer.model.state_dict().items()}


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_complete_run_leaves_a_loadable_folder_with_everything_in_it(start, tmp_path, capsys):
    run, checkpoint = start()
    assert checkpoint is None
    train(run, checkpoint)
    metrics = finish_run(run)
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert {"recipe.yaml", "versions.json", "metrics.json", "log_history.json", "loss.png", "config.json"} <= names
    assert {"model.safetensors", "tokenizer.json", "modeling_kakehashi.py"} <= names
    assert not any(name.startswith((".", "checkpoint-")) for name in names)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["steps"] == 6
    assert metrics["eval_loss"] < metrics["train_loss"] < 7
    assert metrics["num_tokens_seen"] > 0
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert_equal_weights(loaded.state_dict(), run.trainer.model.state_dict())
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == run.tokenizer.get_vocab()
    assert "saved" in capsys.readouterr().err


def test_the_recipe_of_a_run_gives_the_same_arguments_again(start, tmp_path):
    run, checkpoint = start()
    train(run, checkpoint)
    finish_run(run)
    again = resolved_recipe(*parse_recipe(InstructArguments, read_recipe(tmp_path / "run" / "recipe.yaml")))
    assert again == run.recipe
    assert "num_train_epochs" not in again


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_to_the_very_same_weights(start, reset, tmp_path, number, capsys):
    run, checkpoint = start(output_dir=str(tmp_path / "uninterrupted"))
    train(run, checkpoint)
    expected = weights(run)

    reset()
    run, checkpoint = start(DoAtStep(3, lambda _: signal.raise_signal(number)))
    with pytest.raises(TrainingInterrupted, match=r"interrupted at step \d, saved .*checkpoint-\d; .* --resume"):
        train(run, checkpoint)
    assert not (tmp_path / "run" / "metrics.json").exists()

    reset()
    run, checkpoint = start(resume_from_checkpoint=RESUME_NEWEST)
    assert checkpoint.name in ("checkpoint-3", "checkpoint-4")
    capsys.readouterr()
    train(run, checkpoint)
    assert_equal_weights(weights(run), expected)
    assert run.trainer.state.global_step == 6
    assert capsys.readouterr().err.strip() == f"going on from {checkpoint}"


def test_the_checkpoint_of_a_signal_stays_beside_the_best_one(start, tmp_path):
    # The loss falls, so the first one stays the best of what is to be greatest.
    keys = {"metric_for_best_model": "loss", "greater_is_better": True, "eval_steps": 2, "save_total_limit": 1}
    run, checkpoint = start(DoAtStep(4, lambda _: signal.raise_signal(signal.SIGTERM)), **keys)
    with pytest.raises(TrainingInterrupted, match=r"interrupted at step 5, saved .*checkpoint-5;"):
        train(run, checkpoint)
    assert {path.name for path in (tmp_path / "run").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-5"}


@pytest.mark.parametrize("strategy", [{"eval_steps": 2}, {"eval_strategy": "epoch", "save_strategy": "epoch"}])
def test_a_validation_that_a_signal_kept_from_being_made_is_made_up_for(start, reset, strategy, tmp_path):
    keys = {"metric_for_best_model": "loss", "load_best_model_at_end": True, **strategy}
    run, checkpoint = start(output_dir=str(tmp_path / "uninterrupted"), **keys)
    train(run, checkpoint)
    expected = run.trainer.state
    validated = [entry["step"] for entry in expected.log_history if "eval_loss" in entry]
    # At the end of the step before it is asked for, so that it comes while the step with a validation is computed.
    reset()
    run, checkpoint = start(DoAtStep(validated[0] - 1, lambda _: signal.raise_signal(signal.SIGTERM)), **keys)
    with pytest.raises(TrainingInterrupted, match=f"interrupted at step {validated[0]}"):
        train(run, checkpoint)
    assert not any("eval_loss" in entry for entry in run.trainer.state.log_history)
    reset()
    run, checkpoint = start(resume_from_checkpoint=RESUME_NEWEST, **keys)
    train(run, checkpoint)
    losses = [
        {entry["step"]: entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry}
        for state in (run.trainer.state, expected)
    ]
    assert losses[0] == losses[1]
    assert (run.trainer.state.best_global_step, run.trainer.state.best_metric) == (
        expected.best_global_step,
        expected.best_metric,
    )


def test_a_run_does_not_go_on_with_another_optimizer_or_model(start, tiny_model):
    run, checkpoint = start(DoAtStep(3, lambda _: signal.raise_signal(signal.SIGINT)))
    with pytest.raises(TrainingInterrupted):
        train(run, checkpoint)
    with pytest.raises(ValueError, match=r"must go on with the optimizer of .*: `use_muon`, `optim`"):
        train(*start(resume_from_checkpoint=RESUME_NEWEST, freeze_encoder=True))
    tiny_model.config.num_encoder_layers += 1
    with pytest.raises(ValueError, match=r"must go on with the model of .*, whose `num_encoder_layers` is 2, got 3"):
        train(*start(resume_from_checkpoint=RESUME_NEWEST))


def test_a_resumed_run_says_that_a_changed_learning_rate_is_not_taken(start, tmp_path, capsys):
    run, checkpoint = start()
    train(run, checkpoint)
    for rate, is_told in ((1e-2, False), (1e-3, True)):
        capsys.readouterr()
        run, checkpoint = start(
            resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"), learning_rate=rate, save_total_limit=None
        )
        train(run, checkpoint)
        told = capsys.readouterr().err
        assert ("`learning_rate` 0.001 is not taken" in told and "--overwrite true" in told) == is_told


def test_loss_and_time_of_a_resumed_run_are_those_of_the_whole(start, reset, tmp_path):
    run, checkpoint = start(output_dir=str(tmp_path / "uninterrupted"))
    train(run, checkpoint)
    expected = mean_loss(run.trainer)
    assert expected == run.trainer.state.log_history[-1]["train_loss"]
    reset()
    run, checkpoint = start()
    train(run, checkpoint)
    state_file = tmp_path / "run" / "checkpoint-4" / "trainer_state.json"
    state = json.loads(state_file.read_text())
    state["stateful_callbacks"]["TokenCounter"]["args"]["run_seconds"] += 1000.0
    state_file.write_text(json.dumps(state))
    # The second one was killed while it was finishing: no step is left.
    for step in (4, 6):
        reset()
        run, checkpoint = start(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
        train(run, checkpoint)
        metrics = finish_run(run) if step == 6 else {"train_loss": mean_loss(run.trainer)}
        assert metrics["train_loss"] == pytest.approx(expected)
        assert 1000 < run.counter.run_seconds < 2000


def test_resuming_passes_over_a_half_written_checkpoint(start, tmp_path, capsys):
    run, checkpoint = start()
    train(run, checkpoint)
    file = tmp_path / "run" / "checkpoint-6" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    _, checkpoint = start(resume_from_checkpoint=RESUME_NEWEST)
    assert checkpoint.name == "checkpoint-4"
    assert "checkpoint-6: model.safetensors is cut off or damaged; skipped" in capsys.readouterr().err


def test_numbers_that_are_not_finite_stop_the_run_and_leave_the_last_checkpoint_good(start, tmp_path):
    def spoil(model):
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))

    # The weights go bad after the checkpoint of step 2 has been asked for but before step 4 would save them.
    run, checkpoint = start(DoAtStep(3, spoil))
    with pytest.raises(ValueError, match="is not finite at step 4"):
        train(run, checkpoint)
    _, checkpoint = start(resume_from_checkpoint=RESUME_NEWEST)
    assert checkpoint.name == "checkpoint-2"


@pytest.mark.parametrize("failing", ["weights", "optimizer"])
def test_a_full_disk_gives_one_line_and_keeps_the_earlier_checkpoint(start, tmp_path, monkeypatch, failing):
    run, checkpoint = start()
    write, calls = (run.trainer._save, []) if failing == "weights" else (torch.save, [])

    def run_full(*args, **kwargs):
        calls.append(args)
        if run.trainer.state.global_step == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*args, **kwargs)

    if failing == "weights":
        monkeypatch.setattr(run.trainer, "_save", run_full)
    else:
        monkeypatch.setattr(torch, "save", run_full)
    with pytest.raises(OSError, match=r"no space left .*last complete checkpoint is .*checkpoint-2.*--resume"):
        train(run, checkpoint)
    assert calls
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-2"]


def test_a_full_disk_at_the_end_keeps_the_checkpoints(start, tmp_path, monkeypatch):
    run, checkpoint = start()
    train(run, checkpoint)

    def run_full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run.trainer.model, "save_pretrained", run_full)
    with pytest.raises(OSError, match=r"last complete checkpoint is .*checkpoint-6"):
        finish_run(run)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint-4", "checkpoint-6"]


def test_a_full_disk_is_known_by_what_each_library_says(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    torch_error = RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file")
    assert is_disk_full(SafetensorError("I/O error: No space left on device (os error 28)"), tmp_path)
    assert is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path)
    assert is_disk_full(SafetensorError("I/O error: Disk quota exceeded (os error 122)"), tmp_path)
    assert is_disk_full(RuntimeError(f"{torch_error} data/3: file write failed"), tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert is_disk_full(torch_error, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**30))
    assert not is_disk_full(torch_error, tmp_path)
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"), tmp_path)


def test_an_error_that_is_no_full_disk_stays_what_it_is(start, monkeypatch):
    run, checkpoint = start()
    monkeypatch.setattr(run.trainer, "training_step", lambda *args: (_ for _ in ()).throw(RuntimeError("shapes")))
    with pytest.raises(RuntimeError, match="shapes"):
        train(run, checkpoint)


def test_a_time_budget_ends_the_run_with_a_decayed_learning_rate(start):
    run, checkpoint = start(max_steps=-1, max_minutes=0.02, eval_strategy="no")
    train(run, checkpoint)
    metrics = finish_run(run)
    assert 0.5 < metrics["train_runtime"] < 20
    assert 0 < metrics["steps"] < 10_000
    assert run.trainer.lr_scheduler.get_last_lr() == [0.0, 0.0]


def test_layers_are_compiled_where_the_recipe_says_so_and_the_weights_are_the_same(start, reset, tmp_path):
    plain, checkpoint = start(output_dir=str(tmp_path / "plain"))
    train(plain, checkpoint)
    expected = weights(plain)
    reset()
    # What is said to be compiled runs as it is: compiling takes half a minute.
    with torch.compiler.set_stance("force_eager"):
        compiled, checkpoint = start(output_dir=str(tmp_path / "compiled"), compile_layers=True)
        assert all(layer._compiled_call_impl is not None for layer in compiled.model.model.encoder.layers)
        train(compiled, checkpoint)
        finish_run(compiled)
    assert_equal_weights(weights(compiled), expected)
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "compiled").num_parameters() > 0


def test_no_examples_are_refused(start, examples, monkeypatch):
    monkeypatch.setattr(Dataset, "__len__", lambda self: 0)
    with pytest.raises(ValueError, match="`train_files` must give at least one example, got none"):
        start()
