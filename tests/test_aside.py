"""Files and folders are complete as soon as they are there, and of a failure nothing is left."""

import os
import stat
import sys
from pathlib import Path

import pytest

from kakehashi.training import aside
from kakehashi.training.aside import fill_new_folder, replace_file, require_writable_file


def test_a_folder_appears_when_it_is_complete(tmp_path):
    folder = tmp_path / "new" / "export"
    with fill_new_folder(folder) as written:
        (written / "model.bin").write_bytes(b"weights")
        assert not folder.exists()
    assert (folder / "model.bin").read_bytes() == b"weights"
    assert list(folder.parent.iterdir()) == [folder]


def test_an_empty_folder_is_filled(tmp_path):
    with fill_new_folder(tmp_path / "export") as written:
        (tmp_path / "export").mkdir()
        (written / "model.bin").write_bytes(b"weights")
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["model.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no folder that a program runs in")
def test_the_folder_may_be_the_one_that_a_program_runs_in(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with fill_new_folder(Path(".")) as written:
        (written / "model.bin").write_bytes(b"weights")
    assert (tmp_path / "here" / "model.bin").read_bytes() == b"weights"


def test_nothing_is_left_of_a_failure_not_even_the_folders_above(tmp_path):
    with pytest.raises(KeyError), fill_new_folder(tmp_path / "new" / "runs" / "export") as written:
        (written / "model.bin").write_bytes(b"half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_what_came_into_the_folder_meanwhile_stays(tmp_path):
    with pytest.raises(OSError), fill_new_folder(tmp_path / "export"):
        (tmp_path / "export").mkdir()
        (tmp_path / "export" / "notes.txt").write_text("mine")
    assert (tmp_path / "export" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"`output_dir` must be empty or new, but .* holds something"):
        fill_new_folder(tmp_path).__enter__()
    with pytest.raises(ValueError, match="`output_dir` must be a folder, got the file"):
        fill_new_folder(tmp_path / "notes.txt").__enter__()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["folder", "file/numbers.json"])
def test_a_file_that_cannot_be_written_is_refused_by_the_name_of_its_argument(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`--output` must be a file in a folder that can be written to, got"):
        require_writable_file("--output", tmp_path / name)
    require_writable_file("--output", tmp_path / "new" / "numbers.json")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    def fail(path):
        path.write_text("hal")
        raise KeyError

    path = tmp_path / "card.md"
    replace_file(path, lambda written: written.write_text("first"))
    replace_file(path, lambda written: written.write_text("second"))
    with pytest.raises(KeyError):
        replace_file(path, fail)
    assert path.read_text() == "second"
    usual = tmp_path / "usual.md"
    usual.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["card.md", "usual.md"]


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(aside, "bring_to_disk", lambda folder: done.append(next(folder.iterdir()).name))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (done.append("moved"), replace(source, target)))
    replace_file(tmp_path / "card.md", lambda path: path.write_text("first"))
    assert done == ["card.md", "moved"]
