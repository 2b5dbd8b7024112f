"""A folder for the Hub holds known files, and they tell nothing of where they come from."""

import json
import pickle
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from kakehashi.training.publish import inspection
from kakehashi.training.publish.inspection import (
    find_secret,
    find_trace,
    inspect_folder,
    is_published,
    refuse_executable_files,
)

MODELING = Path(inspection.__file__).resolve().parents[2] / "modeling"


@pytest.fixture
def folder(tiny_model_dir, monkeypatch):
    """A folder that may be published, on a machine of someone called Someone."""
    monkeypatch.setattr(inspection.getpass, "getuser", lambda: "Someone")
    monkeypatch.setattr(inspection.platform, "node", lambda: "workstation7")
    monkeypatch.setattr(inspection.Path, "home", lambda: Path("/home/Someone"))
    return tiny_model_dir


def test_a_saved_model_and_all_our_code_may_be_published(folder):
    for path in MODELING.glob("*_kakehashi.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    Figure().savefig(folder / "loss.png")
    inspect_folder(folder, "user/name")


@pytest.mark.parametrize("name", ["notes.txt", "training_args.json", "run_files.json", ".env", "modeling.py"])
def test_a_file_that_is_not_meant_to_be_there_is_named(folder, name):
    (folder / name).write_text("{}", "utf-8")
    with pytest.raises(ValueError, match=rf"^{name} is not a file that belongs into a published folder$"):
        inspect_folder(folder, "user/name")


def test_folders_and_links_are_not_published(folder):
    try:
        (folder / "loss.png").symlink_to(folder / "config.json")
    except OSError:
        pytest.skip("this system lets nobody but its administrator make links")
    with pytest.raises(ValueError, match=r"loss\.png is not a file"):
        inspect_folder(folder, "user/name")
    (folder / "loss.png").unlink()
    (folder / "checkpoint-3").mkdir()
    with pytest.raises(ValueError, match=r"checkpoint-3 is not a file"):
        inspect_folder(folder, "user/name")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "optimizer.pt", "x.pkl", "a.PTH", "b.npz"])
def test_a_file_that_could_run_code_is_refused_by_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"{name} can run code when it is read, .* `save_pretrained`$"):
        refuse_executable_files(tmp_path)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_under_any_name(tmp_path, protocol):
    (tmp_path / "metrics.json").write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    with pytest.raises(ValueError, match=r"metrics\.json can run code"):
        refuse_executable_files(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train_files: /data/private/pairs.tsv", "the path /data/private/pairs.tsv"),
        ("- ~/corpus/a.txt", "the path ~/corpus/a.txt"),
        ('{"x": "C:\\\\Users\\\\me"}', "the path C:"),
        ("see /home for more", "the path /home"),
        ("file:" + "///x", "the path file:" + "//"),
        ("token: hf_" + "a1B2" * 8, "a Hub token"),
        ("ghp_" + "a1B2" * 8, "a token"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("https://me:secret@host.example/x", "a password"),
        ("trained by Someone at night", "the name Someone"),
        ("host: workstation7", "the name workstation7"),
    ],
)
def test_what_tells_of_the_machine_is_found(folder, text, found):
    assert (find_secret(text) or find_trace(text, ["Someone", "workstation7"])).startswith(found)
    (folder / "recipe.yaml").write_text(text, "utf-8")
    with pytest.raises(
        ValueError, match=r"^recipe\.yaml must tell nothing of the machine it comes from, but it holds"
    ):
        inspect_folder(folder, "user/name")


def test_a_secret_is_not_repeated_in_the_message(folder):
    (folder / "recipe.yaml").write_text("hf_" + "a1B2" * 8, "utf-8")
    with pytest.raises(ValueError) as caught:
        inspect_folder(folder, "user/name")
    assert "a1B2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["https://www.apache.org/licenses/LICENSE-2.0", "</s> and a/b", "en/ja", "1/2", "Someones", "`/s`", "runs/a/b"],
)
def test_what_tells_nothing_is_left_alone(text):
    assert find_secret(text) is None and find_trace(text, ["Someone"]) is None


def test_the_token_of_this_machine_is_found_whatever_it_looks_like(folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "plain-words")
    (folder / "metrics.json").write_text('{"note": "plain-words"}', "utf-8")
    with pytest.raises(ValueError, match=r"metrics\.json .* a Hub token$"):
        inspect_folder(folder, "user/name")


def test_the_name_of_the_hub_user_may_be_that_of_the_local_one(folder):
    (folder / "README.md").write_text("# Someone/model", "utf-8")
    inspect_folder(folder, "Someone/model")
    with pytest.raises(ValueError, match="the name Someone"):
        inspect_folder(folder, "another/model")


def test_a_user_called_as_a_common_word_can_publish(folder, monkeypatch):
    monkeypatch.setattr(inspection.getpass, "getuser", lambda: "user")
    (folder / "README.md").write_text('messages = [{"role": "user"}]', "utf-8")
    inspect_folder(folder, "another/model")


def test_metadata_of_weights_and_pictures_is_read_too(folder):
    Figure().savefig(folder / "loss.png", metadata={"Author": "Someone"})
    with pytest.raises(ValueError, match=r"loss\.png .* the name Someone"):
        inspect_folder(folder, "user/name")
    (folder / "loss.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"loss\.png must be a PNG picture"):
        inspect_folder(folder, "user/name")
    (folder / "loss.png").unlink()
    save_file({"a": torch.ones(1)}, folder / "model.safetensors", metadata={"made_in": "/home/Someone/runs"})
    with pytest.raises(ValueError, match=r"model\.safetensors .* the path /home/Someone/runs"):
        inspect_folder(folder, "user/name")


def test_the_vocabulary_may_hold_any_word(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["vocab"] |= {"Someone": 9998, "/home/Someone": 9999}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    inspect_folder(folder, "user/name")


def test_a_label_may_look_like_a_path_and_not_like_a_secret(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    for label, message in [("/r/askscience", None), ("hf_" + "a1B2" * 8, "a Hub token")]:
        path.write_text(json.dumps({**config, "id2label": {"0": label}, "label2id": {label: 0}}), "utf-8")
        with pytest.raises(ValueError, match=message) if message else nullcontext():
            inspect_folder(folder, "user/name")
    path.write_text(json.dumps({**config, "_name_or_path": "/r/askscience"}), "utf-8")
    with pytest.raises(ValueError, match=r"config\.json .* the path /r/askscience"):
        inspect_folder(folder, "user/name")


def test_binary_in_place_of_text_is_named(folder):
    (folder / "metrics.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"metrics\.json must be UTF-8 text"):
        inspect_folder(folder, "user/name")


def test_names_with_a_folder_are_not_published():
    assert is_published("model-00001-of-00002.safetensors")
    assert not is_published("onnx/model.safetensors")
