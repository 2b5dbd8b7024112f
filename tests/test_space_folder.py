"""`kakehashi space`: the folder it writes, and what it refuses."""

import ast
import json
import re
import shutil
import sys
from importlib import resources
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard, constants
from typer.testing import CliRunner

from kakehashi import cli
from kakehashi.modeling import KakehashiForCausalLM, KakehashiForSequenceClassification
from kakehashi.training.space.folder import GRADIO_VERSION, page_requirements, space_name

pytestmark = pytest.mark.usefixtures("verbosity")

ROOT = Path(__file__).resolve().parent.parent
# The names that the Hub knows for the colours of a Space.
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture
def classifier_dir(build_tiny_model, tiny_tokenizer, tmp_path):
    build_tiny_model(KakehashiForSequenceClassification, num_labels=3).save_pretrained(tmp_path / "labels")
    tiny_tokenizer.save_pretrained(tmp_path / "labels")
    return tmp_path / "labels"


@pytest.fixture
def on_hub(tiny_model_dir, tmp_path, monkeypatch):
    """A Hub id whose model lies in a cache of its own, so that it is found without a network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny_model_dir, repository / "snapshots" / ("0" * 40), dirs_exist_ok=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return "someone/tiny"


def run(*arguments):
    return CliRunner().invoke(cli.app, ["space", *map(str, arguments)])


def message(*arguments):
    """The one line that a refused call ends with."""
    with pytest.raises((ValueError, OSError)) as refused:
        raise run(*arguments).exception
    return cli.describe_error(refused.value)


def test_models_of_this_machine_go_along(tiny_model_dir, classifier_dir, tmp_path):
    (tiny_model_dir / "optimizer.pt").write_bytes(b"not for others")
    (tiny_model_dir / "README.md").write_text("# The card\n")
    space = tmp_path / "deep" / "space"
    result = run(
        tiny_model_dir, "--classifier", classifier_dir, "--include-model", "--output-dir", space, "--title", "猫"
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0] == f"saved in  {space}"
    names = {path.relative_to(space).as_posix() for path in space.rglob("*")}
    assert names >= {"app.py", "requirements.txt", "space.json", "README.md", "model", "classifier"}
    assert names >= {"model/model.safetensors", "model/modeling_kakehashi.py", "model/README.md"}
    assert "model/optimizer.pt" not in names
    assert json.loads((space / "space.json").read_text("utf-8")) == {
        "title": "猫",
        "model": "model",
        "classifier": "classifier",
    }
    for path in space.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path
    card = SpaceCard.load(space / "README.md")
    assert card.data.to_dict().get("models") is None
    assert "`classifier/`" in card.text


def test_a_model_on_the_hub_is_only_named(on_hub, tmp_path):
    result = run(on_hub, "--output-dir", tmp_path / "space")
    assert result.exit_code == 0, result.exception
    assert sorted(path.name for path in (tmp_path / "space").iterdir()) == [
        *("README.md", "app.py", "requirements.txt", "space.json")
    ]
    assert json.loads((tmp_path / "space" / "space.json").read_text())["model"] == on_hub
    card = SpaceCard.load(tmp_path / "space" / "README.md")
    assert card.data.models == [on_hub] == card.data.to_dict()["preload_from_hub"]
    assert "[someone/tiny](/someone/tiny)" in card.text


def test_the_metadata_is_what_the_hub_asks_of_a_space(on_hub, tmp_path):
    run(on_hub, "--output-dir", tmp_path / "space")
    data = SpaceCard.load(tmp_path / "space" / "README.md").data.to_dict()
    assert (data["sdk"], data["sdk_version"], data["app_file"]) == ("gradio", GRADIO_VERSION, "app.py")
    assert data["title"] == "kakehashi · tiny" and data["license"] == "apache-2.0"
    assert {data["colorFrom"], data["colorTo"]} <= COLOURS
    assert len(data["emoji"]) == 1 and len(data["short_description"]) <= 60
    assert (data["pinned"], data["python_version"]) == (False, "3.12")


def test_the_page_is_the_file_of_the_package(on_hub, tmp_path):
    run(on_hub, "--output-dir", tmp_path / "space")
    ours = resources.files("kakehashi.training.space").joinpath("app.py").read_bytes()
    assert (tmp_path / "space" / "app.py").read_bytes() == ours


def test_the_page_runs_on_the_gradio_it_is_tested_with():
    assert f"gradio=={GRADIO_VERSION}" in (ROOT / "constraints.txt").read_text("utf-8").splitlines()


def test_every_package_that_page_and_model_import_is_required():
    names = {re.split(r"[^\w]", line)[0] for line in page_requirements()}
    for path in [ROOT / "training/space/app.py", *(ROOT / "modeling").glob("*_kakehashi.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in modules:
                top = module.split(".")[0]
                assert top in names | sys.stdlib_module_names, f"{path.name} imports {top}"


def test_a_folder_of_this_machine_is_refused_unless_it_goes_along(tiny_model_dir, classifier_dir, on_hub, tmp_path):
    space = tmp_path / "new" / "space"
    said = message(tiny_model_dir, "--output-dir", space)
    assert str(tiny_model_dir) in said and "kakehashi publish" in said and "--include-model" in said
    assert "`classifier`" in message(on_hub, "--classifier", classifier_dir, "--output-dir", space)
    assert "is a Hub id" in message(on_hub, "--include-model", "--output-dir", space)
    assert not (tmp_path / "new").exists()


def test_a_model_of_another_kind_is_refused(tiny_model_dir, classifier_dir, build_tiny_model, tmp_path):
    space = tmp_path / "new" / "space"
    assert "ForSequenceClassification" in message(classifier_dir, "--include-model", "--output-dir", space)
    wrong = message(tiny_model_dir, "--classifier", tiny_model_dir, "--include-model", "--output-dir", space)
    assert wrong.startswith("`classifier` must be a model that labels texts")
    build_tiny_model(KakehashiForCausalLM).save_pretrained(tmp_path / "decoder")
    shutil.copy(tiny_model_dir / "tokenizer.json", tmp_path / "decoder")
    assert "ForCausalLM" in message(tmp_path / "decoder", "--include-model", "--output-dir", space)
    assert "no config.json" in message(tmp_path, "--include-model", "--output-dir", space)
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_read_leaves_nothing_behind(tiny_model_dir, tmp_path):
    (tiny_model_dir / "model.safetensors").write_bytes(b"cut short")
    said = message(tiny_model_dir, "--include-model", "--output-dir", tmp_path / "new" / "space")
    assert "cannot be read" in said and "\n" not in said
    assert not (tmp_path / "new").exists()


def test_a_hub_that_has_no_such_model_is_said(tmp_path):
    assert "someone/absent" in message("someone/absent", "--output-dir", tmp_path / "space")
    assert not (tmp_path / "space").exists()


def test_a_folder_that_holds_something_is_not_touched(tiny_model_dir, tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "mine.txt").write_text("mine")
    said = message(tiny_model_dir, "--include-model", "--output-dir", tmp_path / "space")
    assert said.startswith("`output_dir` must be empty")
    assert [path.name for path in (tmp_path / "space").iterdir()] == ["mine.txt"]


def test_a_space_gets_a_name_that_the_hub_allows():
    assert space_name("my model (new)") == "my-model-new"
    assert space_name("…") == "kakehashi"
