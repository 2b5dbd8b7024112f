"""Too little memory: half the batch, the same examples in each step, and one line about it."""

import gzip
import json
import random
from pathlib import Path

import pytest
import torch

from kakehashi.cli import main
from kakehashi.training import instruct
from kakehashi.training.arguments import InstructArguments
from kakehashi.training.documents import load_rows
from kakehashi.training.recipe import parse_recipe
from kakehashi.training.recovery import halve_batch, is_out_of_memory
from kakehashi.training.trainer import RepeatableTrainer

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you")


@pytest.fixture
def recipe(tiny_model_dir, tiny_sentences, tmp_path):
    """The file of a small recipe with batches of 8 and checkpoints every 2 of 5 steps."""
    pairs = [{"en": english, "ja": japanese} for english in tiny_sentences[:5] for japanese in tiny_sentences[5:]][:24]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    content = {
        "model": str(tiny_model_dir),
        "train_files": [str(tmp_path / "pairs.jsonl")],
        "source_template": ["{en}"],
        "target_template": ["{ja}"],
        "output_dir": str(tmp_path / "run"),
        "per_device_train_batch_size": 8,
        "max_steps": 5,
        "save_steps": 2,
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return str(file)


@pytest.fixture
def seen(monkeypatch):
    """Sources of each step, by the step and how many batches it has; the newest try counts."""
    steps = {}
    train = RepeatableTrainer.training_step

    def watch(self, model, inputs, *args):
        step, parts = self.state.global_step, self.args.gradient_accumulation_steps
        if len(steps.get((step, parts), [])) in (0, parts):
            for each in [each for each in steps if each[0] == step]:
                del steps[each]
        steps.setdefault((step, parts), []).append([tuple(row[row != 0].tolist()) for row in inputs["input_ids"]])
        return train(self, model, inputs, *args)

    monkeypatch.setattr(RepeatableTrainer, "training_step", watch)
    return steps


def forbid_more_than(monkeypatch, rows, error, first_step=0):
    """Lets memory end where a batch has more rows."""
    train = RepeatableTrainer.training_step

    def run_out(self, model, inputs, *args):
        if len(inputs["input_ids"]) > rows and self.state.global_step >= first_step:
            raise error
        return train(self, model, inputs, *args)

    monkeypatch.setattr(RepeatableTrainer, "training_step", run_out)


def examples_of(steps):
    return {step: sorted(source for batch in batches for source in batch) for (step, _), batches in steps.items()}


@pytest.mark.parametrize(("error", "first_step"), [(CUDA, 0), (CPU, 3)])
def test_the_batch_is_halved_until_it_fits_and_every_step_has_the_same_examples(
    recipe, seen, monkeypatch, capsys, tmp_path, error, first_step
):
    assert main(["instruct", recipe, "--output_dir", str(tmp_path / "whole")]) == 0
    expected = examples_of(seen)
    seen.clear()
    capsys.readouterr()
    forbid_more_than(monkeypatch, 2, error, first_step)
    assert main(["instruct", recipe]) == 0
    output = capsys.readouterr()
    lines = [line for line in output.err.split("\n") if "out of memory" in line]
    place = f"out of memory at step {first_step + 1}; going on with "
    assert lines == [
        place + "`per_device_train_batch_size` 4 in place of 8 and `gradient_accumulation_steps` 2 in place of 1, the "
        "same 8 examples a step",
        lines[1],
    ]
    assert "`per_device_train_batch_size` 2 in place of 4" in lines[1]
    assert (f"going on from {tmp_path / 'run' / 'checkpoint-2'}" in output.err) == (first_step == 3)
    assert ("starting from the beginning" in output.err) == (first_step == 0)
    assert examples_of(seen) == expected
    # What is written down is what was done.
    assert "gradient_accumulation_steps: 4" in (tmp_path / "run" / "recipe.yaml").read_text()


@pytest.mark.parametrize(("first_step", "place"), [(2, "checkpoint-2"), (4, "checkpoint-4")])
def test_a_checkpoint_that_was_named_is_gone_on_from_until_the_run_has_one_of_its_own(
    recipe, monkeypatch, capsys, tmp_path, first_step, place
):
    command = ["instruct", recipe, "--save_steps", "1", "--save_total_limit", "9"]
    with monkeypatch.context() as patch:
        # Leaves all checkpoints.
        patch.setattr(instruct, "finish_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(command) == 130
    forbid_more_than(monkeypatch, 4, CUDA, first_step)
    capsys.readouterr()
    assert main([*command, "--resume_from_checkpoint", str(tmp_path / "run" / "checkpoint-2")]) == 0
    lines = capsys.readouterr().err.split("\n")
    places = [line.split("/")[-1] for line in lines if line.startswith("going on from")]
    assert places == ["checkpoint-2", place]


@pytest.mark.parametrize("damage", ["cut", "json", "bytes"])
def test_a_damaged_shard_of_a_stream_is_named_with_what_to_do(recipe, tmp_path, monkeypatch, capsys, damage):
    rows = (tmp_path / "pairs.jsonl").read_bytes() + b"\n"
    files = [tmp_path / "1.jsonl.gz", tmp_path / "2.jsonl.gz"]
    for file in files:
        file.write_bytes(gzip.compress(rows))
    arguments = ["instruct", recipe, "--streaming", "true", "--packing", "true", "--train_files", *map(str, files)]
    with monkeypatch.context() as patch:
        forbid_more_than(patch, 0, CUDA, first_step=2)
        assert main([*arguments, "--per_device_train_batch_size", "1"]) == 2
    # Cut off far behind what is looked at before anything is read.
    long_row = json.dumps({"en": random.Random(0).randbytes(20_000).hex(), "ja": "a"}).encode()
    spoilt = {"json": b'{"en": \n', "bytes": b'{"en": "\xff\xfe", "ja": "a"}\n', "cut": long_row}
    content = gzip.compress(rows + spoilt[damage])
    files[1].write_bytes(content[:-30] if damage == "cut" else content)
    for options, hint in ((["--resume"], "add --resume"), (["--output_dir", str(tmp_path / "new")], "begin again")):
        capsys.readouterr()
        assert main([*arguments, *options]) == 2
        line = capsys.readouterr().err.strip().split("\n")[-1]
        assert line.startswith(f"kakehashi: error: `{files[1]}` ") and "cache" not in line
        assert line.endswith(f"; mend the file or leave it out, then {hint}")


def test_a_batch_of_one_that_does_not_fit_is_one_readable_error(recipe, monkeypatch, capsys, tmp_path):
    forbid_more_than(monkeypatch, 0, CUDA, first_step=3)
    arguments = ["instruct", recipe, "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "4"]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("kakehashi: error: out of memory with `per_device_train_batch_size` 1, which cannot be")
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]


def test_validation_that_does_not_fit_goes_on_with_half_its_batch(recipe, monkeypatch, capsys, tmp_path):
    assess, sizes = RepeatableTrainer.prediction_step, []

    def run_out(self, model, inputs, *args, **kwargs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 3:
            raise CUDA
        return assess(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(RepeatableTrainer, "prediction_step", run_out)
    files = str(tmp_path / "pairs.jsonl")
    assert main(["instruct", recipe, "--validation_files", files, "--eval_strategy", "no"]) == 0
    assert sizes[:3] == [8, 4, 2]
    assert "going on with `per_device_eval_batch_size` 2" in capsys.readouterr().err


def test_validation_of_one_row_that_does_not_fit_is_one_readable_error(recipe, monkeypatch, capsys, tmp_path):
    def run_out(self, model, inputs, *args, **kwargs):
        raise CUDA

    monkeypatch.setattr(RepeatableTrainer, "prediction_step", run_out)
    files = str(tmp_path / "pairs.jsonl")
    keys = ["--validation_files", files, "--eval_strategy", "steps", "--eval_steps", "3"]
    assert main(["instruct", recipe, *keys]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("kakehashi: error: out of memory while validating with `per_device_eval_batch_size` 1")
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]


def test_a_step_keeps_its_examples_also_where_the_batch_is_odd(tmp_path):
    for size, accumulation, expected in [
        (8, 1, (4, 2)),
        (5, 1, (1, 5)),
        (6, 1, (3, 2)),
        (5, 4, (2, 10)),
        (3, 2, (1, 6)),
    ]:
        keys = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        _, settings = parse_recipe(InstructArguments, {"output_dir": str(tmp_path), **keys})
        halve_batch(settings)
        assert (settings.per_device_train_batch_size, settings.gradient_accumulation_steps) == expected


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert is_out_of_memory(CUDA) and is_out_of_memory(CPU) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("CUDA out of memory."))


def test_processes_that_a_launcher_started_but_that_would_train_apart_are_refused(recipe, monkeypatch, tmp_path):
    arguments, settings = parse_recipe(InstructArguments, {"output_dir": str(tmp_path / "run")})
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"the launcher started 2 processes, but 1 would train together"):
        instruct.run_instruct(arguments, settings)


def test_damaged_examples_in_the_cache_are_made_again(recipe, tmp_path):
    assert main(["instruct", recipe, "--max_steps", "1"]) == 0
    whole = (tmp_path / "run" / "model.safetensors").read_bytes()
    cache = Path(load_rows(str(tmp_path / "pairs.jsonl")).cache_files[0]["filename"]).parent
    files = list(cache.glob("cache-*.arrow"))
    for file in files:
        file.write_bytes(file.read_bytes()[:-20])
    assert files
    assert main(["instruct", recipe, "--max_steps", "1", "--overwrite", "true"]) == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == whole


def test_a_typo_in_the_recipe_costs_no_run_that_was_to_be_replaced(recipe, tmp_path):
    assert main(["instruct", recipe, "--max_steps", "1"]) == 0
    run = tmp_path / "run"
    content = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    new = {**json.loads(Path(recipe).read_text("utf-8")), "overwrite": True, "max_steps": 2}
    with pytest.raises((OSError, ValueError), match="none"):
        instruct.run_instruct(*parse_recipe(InstructArguments, {**new, "model": str(tmp_path / "none")}))
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == content
    instruct.run_instruct(*parse_recipe(InstructArguments, new))
    assert json.loads((run / "metrics.json").read_text())["steps"] == 2
    assert not any(run.glob(".*"))


@pytest.mark.parametrize(
    "typo",
    [
        {"lr_scheduler_type": "cosine_with_min_lr"},
        {"lr_scheduler_kwargs": {"num_cycle": 2}},
        {"optim": "galore_adamw", "optim_target_modules": ["q_proj"]},
        {"learning_rate": 1e30},
    ],
)
def test_a_typo_that_shows_before_the_first_checkpoint_costs_no_run_either(recipe, tmp_path, typo):
    assert main(["instruct", recipe, "--max_steps", "1"]) == 0
    run = tmp_path / "run"
    content = {path.name: path.read_bytes() for path in run.iterdir()}
    options = [part for key, value in typo.items() for part in (f"--{key}", json.dumps(value))]
    assert main(["instruct", recipe, "--overwrite", "true", *options]) == 2
    assert {path.name: path.read_bytes() for path in run.iterdir()} == content


def test_too_little_memory_takes_up_nothing_of_a_run_that_is_replaced(recipe, monkeypatch, capsys, tmp_path):
    with monkeypatch.context() as patch:
        # Leaves its checkpoints.
        patch.setattr(instruct, "finish_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["instruct", recipe]) == 130
    forbid_more_than(monkeypatch, 4, CUDA)
    assert main(["instruct", recipe, "--overwrite", "true"]) == 0
    told = capsys.readouterr().err
    assert "starting from the beginning" in told and "going on from" not in told
    assert not any((tmp_path / "run").glob(".*"))


def test_a_damaged_file_of_data_is_named_and_the_checkpoint_stays(recipe, tmp_path, monkeypatch, capsys):
    forbid_more_than(monkeypatch, 0, CUDA, first_step=3)
    assert main(["instruct", recipe]) == 2
    checkpoint = tmp_path / "run" / "checkpoint-2"
    content = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    capsys.readouterr()
    assert main(["instruct", recipe, "--resume"]) == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert f"`{file}` line 24 is not valid JSON" in line
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == content
