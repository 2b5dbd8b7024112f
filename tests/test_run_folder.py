"""The folder of a run: who may write to it, what it holds in the end, and what a failure leaves."""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest

from kakehashi.training.arguments import InstructArguments
from kakehashi.training.recipe import parse_recipe, resolved_recipe
from kakehashi.training.run_files import claim_file, put_file
from kakehashi.training.run_folder import (
    RESUME_NEWEST,
    describe_environment,
    fill_run_folder,
    finished_metrics,
    no_empty_folder_left,
    open_run_folder,
    remove_replaced_run,
)


@pytest.fixture
def parse(tmp_path):
    def parse_run(**keys):
        return parse_recipe(InstructArguments, {"output_dir": str(tmp_path / "run"), **keys})

    return parse_run


@pytest.fixture
def fill(parse, tiny_model, tiny_tokenizer):
    def fill_folder():
        arguments, training_arguments = parse()
        recipe = resolved_recipe(arguments, training_arguments)
        log = [{"step": 1, "loss": 2.0, "learning_rate": 0.1}]
        fill_run_folder(tiny_model, tiny_tokenizer, recipe, training_arguments, "instruct", {"steps": 1}, log)

    return fill_folder


def test_a_new_folder_is_made_and_an_empty_one_taken(parse, tmp_path):
    assert open_run_folder(*parse()) is None
    assert open_run_folder(*parse()) is None
    assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_holds_something_is_refused(parse, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"`output_dir` must be empty, got .*add --resume .*--overwrite true"):
        open_run_folder(*parse())
    with pytest.raises(ValueError, match=r"`output_dir` must be empty, got .*holds files that no run wrote"):
        open_run_folder(*parse(overwrite=True))
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(parse, fill, tmp_path):
    open_run_folder(*parse())
    fill()
    (tmp_path / "run" / "checkpoint-5").mkdir()
    open_run_folder(*parse(overwrite=True))
    assert not (tmp_path / "run" / "metrics.json").exists()
    remove_replaced_run(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_a_run_is_whole_where_the_one_that_was_to_replace_it_never_trained(parse, fill, tmp_path):
    open_run_folder(*parse())
    fill()
    folder, expected = tmp_path / "run", names_in(tmp_path / "run")
    with pytest.raises(ValueError, match="a typo"), no_empty_folder_left(folder):
        open_run_folder(*parse(overwrite=True))
        # What the new run writes before it trains goes.
        put_file(folder, "recipe.yaml", lambda path: path.write_text("new"))
        claim_file(folder, "fold-1").mkdir()
        raise ValueError("a typo")
    assert names_in(folder) == expected
    assert (folder / "recipe.yaml").read_text() != "new"
    # Killed, it could not put anything back; whoever comes next does.
    open_run_folder(*parse(overwrite=True))
    with pytest.raises(ValueError, match="`output_dir` must be empty"):
        open_run_folder(*parse())
    assert names_in(folder) == expected


def test_a_run_killed_before_it_has_replaced_another_is_the_one_to_resume(parse, fill, tmp_path, capsys):
    open_run_folder(*parse())
    fill()
    folder, expected = tmp_path / "run", names_in(tmp_path / "run")
    # Also where the earlier one has nothing but checkpoints.
    for earlier in (expected, {"checkpoint-5"}):
        open_run_folder(*parse(overwrite=True))
        claim_file(folder, "samples.jsonl").write_text("new")
        assert finished_metrics(folder) is None
        with pytest.raises(ValueError, match="a typo"), no_empty_folder_left(folder):
            assert open_run_folder(*parse(resume_from_checkpoint=RESUME_NEWEST)) is None
            assert "no checkpoint in" in capsys.readouterr().err
            raise ValueError("a typo")
        assert names_in(folder) - {"run_files.json"} == earlier - {"run_files.json"}
        remove_replaced_run(folder)
        open_run_folder(*parse(overwrite=True))
        remove_replaced_run(folder)
        (folder / "checkpoint-5").mkdir()


def test_a_complete_run_is_known_also_where_the_one_it_has_replaced_is_still_there(parse, fill, tmp_path):
    folder = tmp_path / "run"
    open_run_folder(*parse())
    fill()
    expected = names_in(folder)
    open_run_folder(*parse(overwrite=True))
    shutil.copytree(folder / ".replaced-run", tmp_path / "earlier")
    fill()
    assert names_in(folder) == expected
    shutil.copytree(tmp_path / "earlier", folder / ".replaced-run")
    assert finished_metrics(folder) == {"steps": 1}
    assert names_in(folder) == expected


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such locks")
def test_the_run_of_another_process_is_left_alone(parse, tmp_path):
    folder = tmp_path / "run"
    with no_empty_folder_left(folder):
        open_run_folder(*parse())
        child = os.fork()
        if child == 0:
            with suppress(BaseException), no_empty_folder_left(folder):
                try:
                    open_run_folder(*parse(resume_from_checkpoint=RESUME_NEWEST))
                except ValueError as error:
                    os._exit(3 if "in use by another one" in str(error) else 4)
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        child = os.fork()
        if child == 0:
            with suppress(BaseException), no_empty_folder_left(folder):
                finished_metrics(folder)
            os._exit(0)
        os.waitpid(child, 0)
        assert folder.is_dir()
    # It is free again at the end.
    child = os.fork()
    if child == 0:
        with suppress(ValueError):
            open_run_folder(*parse())
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_folder_that_nothing_can_be_written_into_is_refused_at_once(parse, tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", f"{dir}/tmp1")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for keys in ({}, {"resume_from_checkpoint": RESUME_NEWEST}):
        with pytest.raises(PermissionError) as error:
            open_run_folder(*parse(**keys))
        assert error.value.filename == str(tmp_path / "run")


def test_a_checkpoint_of_another_folder_replaces_no_run_unless_that_is_asked_for(parse, fill, tmp_path, monkeypatch):
    monkeypatch.setattr("kakehashi.training.run_folder.find_damage", lambda _: None)
    folder, foreign, own = tmp_path / "run", tmp_path / "other" / "checkpoint-2", tmp_path / "run" / "checkpoint-2"
    assert open_run_folder(*parse(resume_from_checkpoint=str(foreign))) == foreign
    # As a second try without enough memory finds it.
    claim_file(folder, "samples.jsonl").write_text("new")
    assert open_run_folder(*parse(resume_from_checkpoint=str(foreign))) == foreign
    own.mkdir()
    assert open_run_folder(*parse(resume_from_checkpoint=str(own))) == own
    with pytest.raises(ValueError, match="`output_dir` must be empty"):
        open_run_folder(*parse(resume_from_checkpoint=str(foreign)))
    fill()
    with pytest.raises(ValueError, match="`output_dir` must be empty"):
        open_run_folder(*parse(resume_from_checkpoint=str(foreign)))
    with pytest.raises(ValueError, match="`output_dir` must hold no complete run where `resume_from_checkpoint`"):
        open_run_folder(*parse(resume_from_checkpoint=str(own)))
    assert open_run_folder(*parse(resume_from_checkpoint=str(foreign), overwrite=True)) == foreign
    assert names_in(folder) == {".replaced-run"}


def test_a_failure_in_a_folder_that_cannot_be_removed_is_told_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "run", target_is_directory=True)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    for folder in (Path("."), tmp_path / "link"):
        with pytest.raises(ValueError, match="no data"), no_empty_folder_left(folder):
            raise ValueError("no data")


def test_a_run_whose_moving_was_cut_off_is_whole_again(parse, fill, tmp_path, monkeypatch):
    open_run_folder(*parse())
    fill()
    folder, expected = tmp_path / "run", names_in(tmp_path / "run")
    move, moved = os.replace, []

    def move_twice(source, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(source)
        move(source, target)

    def cut_off(action):
        moved.clear()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", move_twice)
            action()

    cut_off(lambda: open_run_folder(*parse(overwrite=True)))
    assert finished_metrics(folder) == {"steps": 1}
    assert names_in(folder) == expected
    open_run_folder(*parse(overwrite=True))
    cut_off(lambda: open_run_folder(*parse()))
    assert finished_metrics(folder) == {"steps": 1}
    assert names_in(folder) == expected


def test_files_that_no_run_wrote_keep_the_run_beside_them(parse, fill, tmp_path):
    open_run_folder(*parse())
    fill()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    expected = names_in(tmp_path / "run")
    with pytest.raises(ValueError, match="holds files that no run wrote"):
        open_run_folder(*parse(overwrite=True))
    assert names_in(tmp_path / "run") == expected


def test_a_part_of_several_runs_takes_along_what_all_of_them_replace_and_no_other_run(parse, fill, tmp_path):
    open_run_folder(*parse())
    fill()
    folder = tmp_path / "run"
    open_run_folder(*parse(overwrite=True))
    remove_replaced_run(folder / "fold-1")
    assert names_in(folder) == {".replaced-run"}
    claim_file(folder, "fold-1").mkdir()
    remove_replaced_run(folder / "fold-1")
    assert names_in(folder) == {"fold-1", "run_files.json"}


def test_overwrite_never_leaves_its_folder(parse, tmp_path):
    (tmp_path / "precious.txt").write_text("stays")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run_files.json").write_text(json.dumps(["../precious.txt"]))
    open_run_folder(*parse(overwrite=True))
    assert (tmp_path / "precious.txt").exists()


def test_a_file_is_no_folder(parse, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="`output_dir` must be a folder, got the file"):
        open_run_folder(*parse())


def test_resuming_needs_a_complete_checkpoint(parse, tmp_path):
    with pytest.raises(ValueError, match="`--resume` needs a checkpoint in `output_dir`, got none"):
        open_run_folder(*parse(resume_from_checkpoint=RESUME_NEWEST))
    with pytest.raises(ValueError, match=r"`resume_from_checkpoint` must be a complete checkpoint, got .*is missing"):
        open_run_folder(*parse(resume_from_checkpoint=str(tmp_path / "none")))


def test_a_run_killed_before_its_first_checkpoint_is_resumed_from_the_beginning(parse, tmp_path, capsys):
    (tmp_path / "run" / ".writing-checkpoint" / "checkpoint-2").mkdir(parents=True)
    assert open_run_folder(*parse(resume_from_checkpoint=RESUME_NEWEST)) is None
    assert "no checkpoint in" in capsys.readouterr().err
    assert list((tmp_path / "run").iterdir()) == []
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="`--resume` needs a checkpoint"):
        open_run_folder(*parse(resume_from_checkpoint=RESUME_NEWEST))


def test_a_complete_run_is_known_by_its_numbers_and_loses_leftover_checkpoints(parse, fill, tmp_path):
    open_run_folder(*parse())
    assert finished_metrics(tmp_path / "run") is None
    fill()
    (tmp_path / "run" / "checkpoint-5").mkdir()
    assert finished_metrics(tmp_path / "run") == {"steps": 1}
    assert not (tmp_path / "run" / "checkpoint-5").exists()


def test_a_filled_folder_lists_its_files_and_has_no_checkpoints(parse, fill, tmp_path):
    open_run_folder(*parse())
    (tmp_path / "run" / "checkpoint-5").mkdir()
    fill()
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert set(json.loads((tmp_path / "run" / "run_files.json").read_text())) == names - {"run_files.json"}
    assert {"model.safetensors", "metrics.json", "recipe.yaml", "loss.png"} <= names
    assert "checkpoint-5" not in names


def test_a_failure_while_writing_leaves_nothing_half_written(parse, fill, tmp_path, monkeypatch):
    open_run_folder(*parse())

    def fail(*_):
        raise OSError("broken")

    monkeypatch.setattr("kakehashi.training.run_folder.plot_curves", fail)
    with pytest.raises(OSError, match="broken"):
        fill()
    assert list((tmp_path / "run").iterdir()) == []


def test_versions_device_and_commit_are_noted(parse):
    described = describe_environment(parse()[1])
    assert described["torch"] == version("torch")
    assert described["device"] in ("cpu", "cuda", "mps")
    asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=os.path.dirname(__file__))
    assert described["git_commit"] in (None, asked.stdout.strip())


def test_a_run_that_fails_before_it_writes_leaves_no_folder(tmp_path):
    for name, content in (("empty", None), ("kept", "text")):
        folder = tmp_path / name
        with pytest.raises(ValueError, match="no data"), no_empty_folder_left(folder):
            folder.mkdir()
            if content is not None:
                (folder / "file").write_text(content, "utf-8")
            raise ValueError("no data")
    assert not (tmp_path / "empty").exists() and (tmp_path / "kept" / "file").is_file()
