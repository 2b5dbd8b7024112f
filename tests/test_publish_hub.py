"""Folders go to a Hub and come back, over HTTP and in the client's own protocol."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from stand_in_hub import StandInHub

from kakehashi.modeling import KakehashiForConditionalGeneration
from kakehashi.training.model_card import write_model_card
from kakehashi.training.publish.hub import check_repo_id, check_revision, push_folder

REPO = "user/first"


@pytest.fixture
def at_once(monkeypatch):
    """Lets the client try again without waiting."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


def in_shards(model, folder):
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    return sorted(path.name for path in folder.glob("*.safetensors"))


def test_a_new_repository_holds_the_folder_in_one_commit(tiny_model_dir, hub):
    address = push_folder(tiny_model_dir, REPO)
    repository = hub.repositories[f"models/{REPO}"]
    assert address == f"{hub.endpoint}/{REPO}/commit/{repository.branches['main']}"
    assert repository.messages == ["initial commit", "Publish with kakehashi"]
    assert {name: hub.content(REPO, name) for name in repository.files()} == {
        path.name: path.read_bytes() for path in tiny_model_dir.iterdir()
    }
    assert not repository.private
    assert set(hub.users) == {hub.add_user("user")}


def test_a_second_push_sends_what_changed_and_removes_what_is_gone(tiny_model, tiny_model_dir, hub):
    shards = in_shards(tiny_model, tiny_model_dir)
    push_folder(tiny_model_dir, REPO)
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="thesis.txt", repo_id=REPO)
    sent = len(hub.asked("PUT", "^/store/"))
    assert sent >= len(shards) > 2

    (tiny_model_dir / "generation_config.json").write_text("{}", "utf-8")
    push_folder(tiny_model_dir, REPO)
    assert len(hub.asked("PUT", "^/store/")) == sent
    assert hub.content(REPO, "generation_config.json") == b"{}"

    for path in tiny_model_dir.glob("model*"):
        path.unlink()
    tiny_model.save_pretrained(tiny_model_dir)
    push_folder(tiny_model_dir, REPO)
    names = set(hub.repositories[f"models/{REPO}"].files())
    assert names == {path.name for path in tiny_model_dir.iterdir()} | {"thesis.txt"}

    commits = len(hub.repositories[f"models/{REPO}"].commits)
    push_folder(tiny_model_dir, REPO)
    assert len(hub.repositories[f"models/{REPO}"].commits) == commits


@pytest.mark.parametrize("part_size", [None, 10_000])
def test_an_upload_goes_on_after_the_connection_broke(tiny_model, tiny_model_dir, hub, at_once, part_size):
    shards = in_shards(tiny_model, tiny_model_dir)
    hub.part_size = part_size
    needed = sum(-(-(tiny_model_dir / name).stat().st_size // (part_size or 10**9)) for name in shards)
    hub.cut_uploads_after = needed // 2
    with pytest.raises(OSError, match=r"user/first was not pushed: no connection to .* the same command goes on"):
        push_folder(tiny_model_dir, REPO)
    repository = hub.repositories[f"models/{REPO}"]
    assert repository.files() == {} and repository.messages == ["initial commit"]
    arrived = len(hub.store)
    assert part_size is not None or 0 < arrived < len(shards)

    hub.cut_uploads_after = None
    hub.requests.clear()
    push_folder(tiny_model_dir, REPO)
    assert {path.rsplit("/")[2] for path in hub.asked("PUT", "^/store/")}.isdisjoint(list(hub.store)[:arrived])
    assert {name: hub.content(REPO, name) for name in shards} == {
        name: (tiny_model_dir / name).read_bytes() for name in shards
    }


def test_a_cut_that_heals_is_not_noticed(tiny_model_dir, hub, at_once):
    def heal(seconds):
        hub.cut_uploads_after = None

    hub.cut_uploads_after = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.utils._http.time.sleep", heal)
        push_folder(tiny_model_dir, REPO)
    assert hub.content(REPO, "model.safetensors") == (tiny_model_dir / "model.safetensors").read_bytes()
    assert len(hub.asked("PUT", "^/store/")) == 2


def test_a_private_repository_is_for_its_owner(tiny_model_dir, hub, monkeypatch, tmp_path):
    push_folder(tiny_model_dir, REPO, private=True)
    assert hub.repositories[f"models/{REPO}"].private
    assert Path(hf_hub_download(REPO, "config.json")).is_file()
    shutil.rmtree(tmp_path / "hub-cache")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises((RepositoryNotFoundError, GatedRepoError, LocalEntryNotFoundError)):
        hf_hub_download(REPO, "config.json")
    with pytest.raises(OSError, match=r"not a valid model identifier|gated|private|couldn't connect"):
        KakehashiForConditionalGeneration.from_pretrained(REPO)
    monkeypatch.setenv("HF_TOKEN", hub.add_user("stranger"))
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download(REPO, "config.json")
    with pytest.raises(ValueError, match=r"did not accept user/first: the token may not write there"):
        push_folder(tiny_model_dir, REPO)


def test_a_revision_stays_what_it_was(tiny_model, tiny_model_dir, hub):
    first = push_folder(tiny_model_dir, REPO).rpartition("/")[2]
    before = tiny_model.lm_head.weight.detach().clone()
    with torch.no_grad():
        tiny_model.get_input_embeddings().weight.add_(1.0)
    tiny_model.save_pretrained(tiny_model_dir)
    push_folder(tiny_model_dir, REPO, revision="v2")
    repository = hub.repositories[f"models/{REPO}"]
    assert set(repository.branches) == {"main", "v2"} and repository.branches["main"] == first

    def load(revision):
        return KakehashiForConditionalGeneration.from_pretrained(REPO, revision=revision).lm_head.weight

    assert torch.equal(load("main"), before) and torch.equal(load(first), before)
    assert torch.equal(load("v2"), before + 1.0)
    with pytest.raises(OSError, match="not a valid git identifier"):
        load("v3")


def test_what_was_downloaded_loads_without_the_server(tiny_model, tiny_model_dir, hub, tmp_path, monkeypatch):
    push_folder(tiny_model_dir, REPO)
    snapshot_download(REPO)
    asked = len(hub.requests)
    again = KakehashiForConditionalGeneration.from_pretrained(REPO, local_files_only=True)
    assert torch.equal(again.lm_head.weight, tiny_model.lm_head.weight)
    assert len(hub.requests) == asked
    shutil.rmtree(tmp_path / "hub-cache")
    with pytest.raises(OSError, match=r"cached files|local_files_only|valid model identifier|local folder"):
        KakehashiForConditionalGeneration.from_pretrained(REPO, local_files_only=True)


def test_a_card_that_the_hub_would_refuse_is_not_pushed(tiny_model_dir, hub):
    (tiny_model_dir / "README.md").write_text("---\nlicense: Apache 2.0\n---\n# x\n", "utf-8")
    with pytest.raises(ValueError, match=r'"license" must match'):
        push_folder(tiny_model_dir, REPO)
    assert hub.repositories[f"models/{REPO}"].files() == {} and hub.store == {}


def test_names_and_branches_are_checked_before_anything_is_asked(tiny_model_dir, hub):
    with pytest.raises(ValueError, match="the repository must be called user/name, got 'first'"):
        push_folder(tiny_model_dir, "first")
    with pytest.raises(ValueError, match=r"`--revision` must be the name of a branch, such as v1, got '\.\./x'"):
        push_folder(tiny_model_dir, REPO, revision="../x")
    assert hub.requests == []
    check_repo_id("user/model-1.0_x")
    for branch in (None, "v1", "release/1.0", "with-tatoeba"):
        check_revision(branch)
    for branch in ("", "a b", "a..b", "a//b", "x.lock", "-x", "x/", "x."):
        with pytest.raises(ValueError, match="name of a branch"):
            check_revision(branch)


# Runs where `import kakehashi` fails, with nothing but the address of the Hub in its environment.
STRANGER = r"""
import re
import sys
from pathlib import Path

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "kakehashi":
            raise ModuleNotFoundError("kakehashi is not installed here")

sys.meta_path.insert(0, NotInstalled())
import torch
import transformers
from huggingface_hub import hf_hub_download
from transformers import AutoConfig, AutoTokenizer

repo, revision, again = sys.argv[1:4]
ids = torch.tensor([[5, 6, 7, 2]])
config = AutoConfig.from_pretrained(repo, trust_remote_code=True, revision=revision)
heads = [name for name in config.auto_map if name != "AutoConfig"]
for name in heads:
    auto_class = getattr(transformers, name)
    model = auto_class.from_pretrained(repo, trust_remote_code=True, revision=revision)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    is_pair = name in ("AutoModel", "AutoModelForSeq2SeqLM")
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if is_pair else {})}
    with torch.no_grad():
        outputs = model(**inputs)[0]
        # Saved again it is complete again, from a folder and, for one head, from the Hub.
        model.save_pretrained(f"{again}/{name}")
        reloaded = auto_class.from_pretrained(f"{again}/{name}", trust_remote_code=True)
        assert torch.equal(reloaded(**inputs)[0], outputs), name
model = transformers.AutoModelForSeq2SeqLM.from_pretrained(repo, trust_remote_code=True, revision=revision)
model.push_to_hub("user/again")
AutoTokenizer.from_pretrained(repo, trust_remote_code=True, revision=revision).push_to_hub("user/again")
tokenizer = AutoTokenizer.from_pretrained("user/again", trust_remote_code=True)
pushed = transformers.AutoModelForSeq2SeqLM.from_pretrained("user/again", trust_remote_code=True)
turns = [{"role": "user", "content": "I love cats."}]
chat = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
assert torch.equal(pushed.generate(**chat, max_new_tokens=5), model.generate(**chat, max_new_tokens=5))
# What the card tells a stranger to type.
card = Path(hf_hub_download(repo, "README.md", revision=revision)).read_text("utf-8")
(code,) = re.findall(r"```python\n(.*?)```", card, re.S)
exec(code, {})
assert not any(name.split(".")[0] == "kakehashi" for name in sys.modules)
print("heads", len(heads))
"""


def test_every_head_loads_from_the_hub_where_kakehashi_is_not_installed(finish_run, hub, tmp_path):
    templates = {"translation": {"ja": "Translate to Japanese: {text}"}}
    folder = finish_run(task_specific_params=templates)
    write_model_card(folder, name=REPO)
    pinned = push_folder(folder, REPO).rpartition("/")[2]
    # A later version whose code is another: the pinned one is what loads.
    later = folder / "stacks_kakehashi.py"
    later.write_text(later.read_text("utf-8") + "\n# later\n", "utf-8")
    push_folder(folder, REPO)
    script, again = tmp_path / "stranger.py", tmp_path / "again"
    script.write_text(STRANGER, "utf-8")
    environment = {**os.environ, **hub.environment(tmp_path / "stranger-cache", hub.add_user("user"))}
    result = subprocess.run(
        [sys.executable, "-I", str(script), REPO, pinned, str(again)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == "heads 7"
    assert "# later" not in (again / "AutoModel" / later.name).read_text("utf-8")
    files = {name for name in hub.repositories["models/user/again"].files() if name.endswith(".py")}
    assert files == {path.name for path in (again / "AutoModel").glob("*.py")}
    assert "modeling_kakehashi.py" in files and "stacks_kakehashi.py" in files


def test_the_stand_in_keeps_to_itself(hub):
    with StandInHub() as other:
        other.add_user("user")
        HfApi(endpoint=other.endpoint, token=other.add_user("user")).create_repo("user/elsewhere")
        assert list(other.repositories) == ["models/user/elsewhere"] and hub.repositories == {}
