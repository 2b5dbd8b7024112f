"""`kakehashi publish` at the command line: one readable line and exit code 2 for whatever cannot be published."""

import json

import pytest
from huggingface_hub import constants

from kakehashi.cli import main
from kakehashi.modeling.configuration_kakehashi import AUTO_MAP
from kakehashi.training.publish import folder as publishing


@pytest.fixture(autouse=True)
def no_trial(monkeypatch):
    """Leaves out the trial in another process, which has tests of its own."""
    monkeypatch.setattr(publishing, "compare_as_stranger", lambda model, folder: dict(AUTO_MAP))


@pytest.fixture
def fail(capsys):
    """A function that runs `kakehashi publish`, which must fail, and returns its one line."""

    def run(*arguments):
        assert main(["publish", *map(str, arguments)]) == 2
        output = capsys.readouterr()
        assert output.out == "" or "--push" in arguments
        lines = [line for line in output.err.splitlines() if line.startswith("kakehashi:")]
        assert len(lines) == 1 and "Traceback" not in output.err
        return lines[0]

    return run


def test_without_push_the_folder_is_written_and_the_next_command_said(finish_run, capsys):
    run_dir = finish_run()
    assert main(["publish", str(run_dir), "user/first", "--private", "--revision", "v1"]) == 0
    folder = run_dir.with_name("first-model-hub")
    output = capsys.readouterr().out
    assert f"folder   {folder}, " in output
    assert "checked  loads without kakehashi by 8 Auto classes and 0 pipelines, and answers as" in output
    assert f"next     kakehashi publish {run_dir} user/first --push --private --revision v1\n" in output
    assert json.loads((folder / "config.json").read_text("utf-8"))["auto_map"] == AUTO_MAP


def test_with_push_the_address_of_the_commit_is_said(finish_run, capsys, hub):
    assert main(["publish", str(finish_run()), "user/first", "--push"]) == 0
    assert f"pushed   {hub.endpoint}/user/first/commit/" in capsys.readouterr().out
    assert b"kakehashi" in hub.content("user/first", "README.md")


@pytest.mark.parametrize("name", ["first", "user/first/model", "user/fi rst", "user/first..model", "-user/x", "user/"])
def test_a_name_the_hub_does_not_allow(finish_run, fail, name):
    line = fail(finish_run(), "--", name) if name.startswith("-") else fail(finish_run(), name)
    assert f"the repository must be called user/name, got '{name}'" in line


def test_a_branch_that_cannot_be(finish_run, fail):
    assert "`--revision` must be the name of a branch" in fail(finish_run(), "user/first", "--revision", "a b")


def test_a_run_that_is_not_there(fail, tmp_path):
    assert "there is no folder" in fail(tmp_path / "nowhere", "user/first")


@pytest.mark.parametrize("name", ["recipe.yaml", "metrics.json", "versions.json"])
def test_no_card_data(finish_run, fail, name):
    run_dir = finish_run()
    (run_dir / name).unlink()
    assert f"without {name}: a card is filled from a run, train one first" in fail(run_dir, "user/first")


def test_no_licence(finish_run, fail):
    line = fail(finish_run(recipe={"license": None}), "user/first")
    assert "`--license` must name the licence of the weights" in line


def test_a_model_that_was_not_saved(finish_run, fail):
    run_dir = finish_run()
    (run_dir / "model.safetensors").unlink()
    assert "without weights" in fail(run_dir, "user/first")


def test_no_tokenizer(finish_run, fail):
    run_dir = finish_run()
    for path in run_dir.glob("tokenizer*"):
        path.unlink()
    assert "has no tokenizer" in fail(run_dir, "user/first")


def test_unsafe_weights_only(finish_run, fail):
    run_dir = finish_run()
    (run_dir / "model.safetensors").rename(run_dir / "pytorch_model.bin")
    assert "pytorch_model.bin can run code when it is read" in fail(run_dir, "user/first")


def test_a_pickle_in_the_folder(finish_run, fail):
    run_dir = finish_run()
    (run_dir / "optimizer.pt").write_bytes(b"x")
    assert "optimizer.pt can run code when it is read" in fail(run_dir, "user/first")


def test_something_of_the_machine_in_a_file(finish_run, fail):
    run_dir = finish_run(recipe={"source_template": "see /home/someone/notes/x.txt"})
    assert "must tell nothing of the machine it comes from" in fail(run_dir, "user/first")
    assert not run_dir.with_name("first-model-hub").exists()


def test_no_network(finish_run, fail, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    line = fail(finish_run(), "user/first", "--push")
    assert "user/first was not pushed: no connection to http://127.0.0.1:9" in line


def test_told_to_stay_offline(finish_run, fail, hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "stay offline by HF_HUB_OFFLINE" in fail(finish_run(), "user/first", "--push")


def test_no_token(finish_run, fail, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    line = fail(finish_run(), "user/first", "--push")
    assert "there is no token for the Hub here: run `hf auth login`, or set HF_TOKEN" in line
    assert hub.repositories == {}


def test_a_wrong_token_changes_nothing(finish_run, fail, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 7)
    line = fail(finish_run(), "user/first", "--push")
    assert f"{hub.endpoint} did not accept user/first: the token is not valid there. Nothing of it was changed" in line
    assert "wrongwrong" not in line
    assert hub.repositories == {} and hub.store == {}
    assert [path for _, path in hub.requests] == ["/api/whoami-v2"]


def test_the_namespace_of_somebody_else(finish_run, fail, hub):
    line = fail(finish_run(), "google/first", "--push")
    assert "did not accept google/first: the token may not write there" in line
    assert hub.repositories == {} and hub.store == {}
