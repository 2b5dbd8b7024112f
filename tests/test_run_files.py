"""The list of a run's own files."""

import json

import pytest

from kakehashi.training.run_files import MANIFEST, claim_file, listed_files, put_file


def test_a_file_is_listed_before_it_is_there(tmp_path):
    assert listed_files(tmp_path) == []
    assert claim_file(tmp_path, "loss.png") == tmp_path / "loss.png"
    claim_file(tmp_path, "runs")
    claim_file(tmp_path, "loss.png")
    assert listed_files(tmp_path) == ["loss.png", "runs", MANIFEST]
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    put_file(tmp_path, "samples.jsonl", lambda path: path.write_text("first"))
    put_file(tmp_path, "samples.jsonl", lambda path: path.write_text("second"))

    def fail(path):
        path.write_text("thi")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        put_file(tmp_path, "samples.jsonl", fail)
    assert (tmp_path / "samples.jsonl").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "samples.jsonl"]


def test_names_outside_the_folder_are_not_taken_for_a_run_s_own(tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps(["../secret", "/etc/passwd", "sub/file", "loss.png"]))
    assert listed_files(tmp_path) == ["loss.png", MANIFEST]


def test_a_damaged_list_is_named_with_what_to_do(tmp_path):
    (tmp_path / MANIFEST).write_text("")
    with pytest.raises(ValueError, match=f"{tmp_path / MANIFEST} must list the files of the run, but .*; remove it"):
        listed_files(tmp_path)
