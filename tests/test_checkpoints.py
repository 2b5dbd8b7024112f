"""Checkpoints: which one a run goes on from, whatever a crash left behind."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from kakehashi.training.checkpoints import find_damage, list_checkpoints, newest_checkpoint


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
