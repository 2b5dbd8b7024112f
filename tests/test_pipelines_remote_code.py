"""`pipeline(task, model=FOLDER, trust_remote_code=True)` works from the folder alone, without kakehashi."""

import json
import os
import subprocess
import sys

import pytest
from transformers import pipeline

from kakehashi.modeling import (
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiForTokenClassification,
)

TEXT = "I love <mask> cats."
WRITING = {
    "translation": {"tgt_lang": "ja"},
    "translation_en_to_ja": {},
    "summarization": {},
    "text2text-generation": {},
}
# The pipelines of Transformers itself, on the head that each is for.
STOCK = {
    "text-classification": (KakehashiForSequenceClassification, {}),
    "token-classification": (KakehashiForTokenClassification, {}),
    "fill-mask": (KakehashiForMaskedLM, {}),
    "feature-extraction": (KakehashiForConditionalGeneration, {}),
    "text-generation": (KakehashiForCausalLM, {"max_new_tokens": 4, "do_sample": False}),
}

# Runs where `import kakehashi` fails; argv[1] holds a list of task, folder, settings and expected answer.
STRANGER = """
import json, sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "kakehashi":
            raise ModuleNotFoundError("kakehashi is not installed here")

sys.meta_path.insert(0, NotInstalled())
from transformers import pipeline

for task, folder, settings, text, expected in json.load(open(sys.argv[1], encoding="utf-8")):
    pipe = pipeline(task, model=folder, trust_remote_code=True, device="cpu")
    if "generat" not in task or task == "text2text-generation":
        assert type(pipe.model).__module__.startswith("transformers_modules."), type(pipe.model)
    answer = json.loads(json.dumps(pipe(text, **settings), default=float))
    assert answer == expected, (task, answer, expected)
    if task == "translation":
        assert type(pipe).__module__.startswith("transformers_modules."), type(pipe)
        pipe.save_pretrained(folder + "-again")
        again = pipeline(task, model=folder + "-again", trust_remote_code=True, device="cpu")
        assert again(text, **settings) == expected

try:
    pipeline("translation_en_to_ja", model=sys.argv[2], trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code=True" in str(error), error
else:
    raise AssertionError("the code of the folder ran without leave")
assert not any(name.split(".")[0] == "kakehashi" for name in sys.modules)
print("answered")
"""


@pytest.fixture(scope="module")
def folders(build_sharp_model, tiny_tokenizer, tmp_path_factory):
    """A folder for each head, by the name of its class."""
    root = tmp_path_factory.mktemp("models")
    for model_class in {KakehashiForConditionalGeneration, *(each for each, _ in STOCK.values())}:
        folder = root / model_class.__name__
        build_sharp_model(model_class, num_labels=3).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
    return root


def questions(root):
    """Task, folder and settings, and the answer where kakehashi is installed."""
    writer = KakehashiForConditionalGeneration
    asked = {**{task: (writer, {**settings, "max_new_tokens": 6}) for task, settings in WRITING.items()}, **STOCK}
    for task, (model_class, settings) in asked.items():
        folder = str(root / model_class.__name__)
        answer = pipeline(task, model=folder, device="cpu")(TEXT, **settings)
        yield task, folder, settings, TEXT, json.loads(json.dumps(answer, default=float))


def test_every_pipeline_answers_the_same_from_the_code_in_the_folder(folders, tmp_path):
    request = tmp_path / "questions.json"
    request.write_text(json.dumps(list(questions(folders))), "utf-8")
    script = tmp_path / "stranger.py"
    script.write_text(STRANGER, "utf-8")
    folder = folders / KakehashiForConditionalGeneration.__name__
    result = subprocess.run(
        [sys.executable, str(script), str(request), str(folder)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip() == "answered"
    # What a stranger saved from a pipeline is as complete as what we save.
    again = folder.with_name(f"{folder.name}-again")
    assert {path.name for path in again.glob("*.py")} == {path.name for path in folder.glob("*.py")}
    written = [json.loads((each / "config.json").read_text("utf-8"))["custom_pipelines"] for each in (folder, again)]
    assert written[0] == written[1]


def test_where_kakehashi_is_installed_no_leave_is_asked_for_and_its_own_class_answers(folders):
    folder = str(folders / KakehashiForConditionalGeneration.__name__)
    for leave in ({}, {"trust_remote_code": True}):
        pipe = pipeline("translation", model=folder, tgt_lang="ja", **leave)
        assert type(pipe).__module__ == "kakehashi.modeling.pipelines_kakehashi"


def test_a_pipeline_saves_a_folder_complete_with_its_code(folders, tmp_path):
    folder = folders / KakehashiForConditionalGeneration.__name__
    pipeline("translation", model=str(folder), tgt_lang="ja").save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == {path.name for path in folder.glob("*.py")}
    written = [json.loads((each / "config.json").read_text("utf-8")) for each in (folder, tmp_path)]
    assert written[0]["custom_pipelines"] == written[1]["custom_pipelines"]
