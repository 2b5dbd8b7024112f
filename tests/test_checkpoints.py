"""Checkpoints: which one a run goes on from, whatever a crash left behind."""

import json
import shutil

import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file
from torch.distributed import checkpoint as distributed_checkpoint
from transformers import Trainer, TrainerCallback, TrainingArguments

from kakehashi.modeling import KakehashiForSequenceClassification
from kakehashi.training.checkpoints import (
    AtomicCheckpoints,
    find_damage,
    list_checkpoints,
    newest_checkpoint,
    remove_leftovers,
    require_same_model,
    rotate_checkpoints,
)


def write_checkpoint(run_folder, step):
    folder = run_folder / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"weight": torch.zeros(8, 8)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.save({"step": step}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    return folder


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def test_checkpoints_are_ordered_by_step_not_by_name(tmp_path):
    for step in (90, 100, 9):
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-90", "checkpoint-9"]
    assert newest_checkpoint(tmp_path).name == "checkpoint-100"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
def test_every_file_that_a_crash_cut_off_or_left_out_is_found(tmp_path, name):
    folder = write_checkpoint(tmp_path, 1)
    assert find_damage(folder) is None
    cut(folder / name)
    assert name in find_damage(folder)
    (folder / name).unlink()
    assert find_damage(folder) is not None


def test_a_half_written_checkpoint_is_skipped_with_one_line(tmp_path, capsys):
    write_checkpoint(tmp_path, 10)
    cut(write_checkpoint(tmp_path, 20) / "model.safetensors")
    assert newest_checkpoint(tmp_path).name == "checkpoint-10"
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 1
    assert "checkpoint-20: model.safetensors is cut off or damaged; skipped, going on from checkpoint-10" in lines[0]


def test_a_run_whose_checkpoints_are_all_damaged_says_so(tmp_path):
    cut(write_checkpoint(tmp_path, 10) / "optimizer.pt")
    with pytest.raises(ValueError, match=r"no checkpoint in .* is usable: .*checkpoint-10: optimizer\.pt"):
        newest_checkpoint(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-10")
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("name", ["pytorch_model_fsdp_0", "optimizer_0"])
def test_a_missing_or_cut_part_of_a_sharded_checkpoint_is_found(tmp_path, name):
    folder = write_checkpoint(tmp_path, 1)
    (folder / "model.safetensors").unlink()
    (folder / "optimizer.pt").unlink()
    assert find_damage(folder) == "it holds no weights"
    for each in ("pytorch_model_fsdp_0", "optimizer_0"):
        distributed_checkpoint.save({"weight": torch.zeros(64, 8)}, checkpoint_id=folder / each, no_dist=True)
    assert find_damage(folder) is None
    (part,) = (folder / name).glob("*.distcp")
    cut(part)
    assert find_damage(folder) == f"{name}/{part.name} is missing or cut off"
    part.unlink()
    assert find_damage(folder) == f"{name}/{part.name} is missing or cut off"
    (folder / name / ".metadata").write_bytes(b"")
    assert find_damage(folder) == f"{name}/.metadata is missing or damaged"


def steps_left(run_folder):
    return [int(path.name.removeprefix("checkpoint-")) for path in list_checkpoints(run_folder)]


def test_rotation_keeps_the_newest_and_the_best_and_drops_a_course_that_was_left(tmp_path):
    for step in (1, 2, 3, 4, 9):
        write_checkpoint(tmp_path, step)
    newest = tmp_path / "checkpoint-4"
    rotate_checkpoints(newest, None)
    assert steps_left(tmp_path) == [4, 3, 2, 1]
    write_checkpoint(tmp_path, 9)
    rotate_checkpoints(newest, 3, best=str(tmp_path / "checkpoint-1"))
    assert steps_left(tmp_path) == [4, 3, 1]
    rotate_checkpoints(newest, 1, best=str(tmp_path / "checkpoint-1"))
    assert steps_left(tmp_path) == [4, 1]
    rotate_checkpoints(newest, 1)
    assert steps_left(tmp_path) == [4]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


class Watch(TrainerCallback):
    """Notes what stands in the run folder when files of a checkpoint are written."""

    def __init__(self, folder):
        self.folder = folder
        self.seen = []

    def note(self):
        damages = [find_damage(each) for each in list_checkpoints(self.folder)]
        self.seen.append((any(self.folder.glob(".writing-*")), damages))

    def on_save(self, args, state, control, **kwargs):
        self.note()


@pytest.fixture
def train_plainly(tmp_path, tiny_model):
    """A function that trains four steps with a plain Trainer, but for its checkpoints."""

    class PlainTrainer(AtomicCheckpoints, Trainer):
        pass

    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [8, 9]}] * 8)

    def train_four_steps(*callbacks, resume=None, **arguments):
        settings = {
            "output_dir": tmp_path / "run",
            "max_steps": 4,
            "save_steps": 1,
            "per_device_train_batch_size": 2,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        settings = TrainingArguments(**settings | arguments)
        trainer = PlainTrainer(tiny_model, settings, train_dataset=rows, eval_dataset=rows, callbacks=list(callbacks))
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return train_four_steps


def test_a_plain_trainer_writes_complete_checkpoints_only(train_plainly, tmp_path, monkeypatch):
    watch = Watch(tmp_path / "run")
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *args, **kwargs: (watch.note(), save(*args, **kwargs)))
    trainer = train_plainly(watch, save_total_limit=1)
    # While files were being written, everything that had the name of a checkpoint was complete.
    assert any(is_writing for is_writing, _ in watch.seen)
    assert all(damages in ([], [None]) for _, damages in watch.seen)
    assert steps_left(tmp_path / "run") == [4]
    assert trainer.state.global_step == 4
    train_plainly(resume=True)


def test_the_end_of_training_removes_no_checkpoint(train_plainly, tmp_path):
    keys = {"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "eval_loss"}
    # The loss falls, so the first one stays the best of what is to be greatest.
    trainer = train_plainly(save_total_limit=1, greater_is_better=True, learning_rate=1e-2, **keys)
    assert steps_left(tmp_path / "run") == [4, 1]
    assert trainer.args.save_total_limit == 1


def test_a_disk_that_is_full_while_the_optimizer_is_written_is_known_before_room_is_made(
    train_plainly, tmp_path, monkeypatch
):
    usage, aside = shutil.disk_usage(tmp_path), tmp_path / "run" / ".writing-checkpoint"

    def fill_disk(*args, **kwargs):
        raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fill_disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0 if aside.exists() else 2**30))
    with pytest.raises(OSError, match="No space left on device"):
        train_plainly()
    assert not aside.exists()


def test_a_resumed_run_logs_and_saves_as_its_arguments_say(train_plainly, tmp_path):
    train_plainly(save_steps=3)
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    trainer = train_plainly(resume=True, save_steps=2, logging_steps=1, max_steps=8)
    assert steps_left(tmp_path / "run") == [8, 6, 4, 3]
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [4, 5, 6, 7, 8]


def test_the_best_checkpoint_is_found_where_the_folder_stands_by_now(train_plainly, tmp_path):
    keys = {"save_total_limit": 1, "eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "eval_loss"}
    train_plainly(greater_is_better=True, learning_rate=1e-2, **keys)
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    resume = str(moved / "checkpoint-4")
    trainer = train_plainly(
        output_dir=moved, resume=resume, max_steps=5, greater_is_better=True, learning_rate=1e-2, **keys
    )
    assert trainer.state.best_model_checkpoint == str(moved / "checkpoint-1")
    assert steps_left(moved) == [5, 1]


def test_the_best_checkpoint_is_known_by_its_final_name_and_kept(train_plainly, tmp_path):
    trainer = train_plainly(
        save_total_limit=1,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        # The loss falls, so the first one stays the best of what is to be greatest.
        greater_is_better=True,
        learning_rate=1e-2,
    )
    assert trainer.state.best_model_checkpoint == str(tmp_path / "run" / "checkpoint-1")
    state = json.loads((tmp_path / "run" / "checkpoint-1" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "run" / "checkpoint-1")


def test_what_a_killed_process_left_is_removed_by_the_next_checkpoint_or_by_resuming(train_plainly, tmp_path):
    half = tmp_path / "run" / ".writing-checkpoint" / "checkpoint-2"
    gone = tmp_path / "run" / ".removing-checkpoint-1"
    for folder in (half, gone):
        folder.mkdir(parents=True)
        (folder / "optimizer.pt").write_text("half")
    train_plainly()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        f"checkpoint-{step}" for step in (1, 2, 3, 4)
    ]
    half.mkdir(parents=True)
    remove_leftovers(tmp_path / "run")
    assert not any((tmp_path / "run").glob(".*"))


def test_a_checkpoint_is_of_the_model_that_has_its_labels_and_sizes(tmp_path, build_tiny_model):
    model = build_tiny_model(KakehashiForSequenceClassification, id2label={0: "cat", 1: "dog"})
    require_same_model(tmp_path, model)
    model.save_pretrained(tmp_path)
    model.config.dropout, model.config.pad_token_id = 0.5, 3
    require_same_model(tmp_path, model)
    model.config.id2label = {0: "dog", 1: "cat"}
    with pytest.raises(ValueError, match=r"whose `id2label` is .*'1': 'dog'}, got .*'1': 'cat'}"):
        require_same_model(tmp_path, model)
