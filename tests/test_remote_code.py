"""A saved folder loads where kakehashi is not installed, and saves a complete folder again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers.dynamic_module_utils import get_imports

from kakehashi.modeling import (
    KakehashiEncoderModel,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiForTokenClassification,
    KakehashiModel,
)
from kakehashi.modeling.configuration_kakehashi import AUTO_MAP

MODELING = Path(__file__).resolve().parent.parent / "modeling"
CODE_FILES = {path.name for path in MODELING.glob("*_kakehashi.py")}
AUTO_CLASSES = {
    "AutoModel": KakehashiModel,
    "AutoModelForSeq2SeqLM": KakehashiForConditionalGeneration,
    "AutoModelForCausalLM": KakehashiForCausalLM,
    "AutoModelForMaskedLM": KakehashiForMaskedLM,
    "AutoModelForSequenceClassification": KakehashiForSequenceClassification,
    "AutoModelForTokenClassification": KakehashiForTokenClassification,
    "AutoModelForTextEncoding": KakehashiEncoderModel,
}

# Runs where `import kakehashi` fails. Each folder under argv[1] is named after the Auto class that shall load it.
STRANGER = """
import sys
from pathlib import Path

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "kakehashi":
            raise ModuleNotFoundError("kakehashi is not installed here")

sys.meta_path.insert(0, NotInstalled())

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer

def outputs_of(model, inputs):
    with torch.no_grad():
        return model(**inputs)[0]

root = Path(sys.argv[1])
for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    auto_class = getattr(transformers, folder.name)
    expected = torch.load(folder / "expected.pt")
    model = auto_class.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    assert type(AutoConfig.from_pretrained(folder, trust_remote_code=True)).__name__ == "KakehashiConfig"
    assert torch.equal(outputs_of(model, expected["inputs"]), expected["outputs"]), folder
    again = folder / "again"
    model.save_pretrained(again)
    reloaded = auto_class.from_pretrained(again, trust_remote_code=True)
    assert torch.equal(outputs_of(reloaded, expected["inputs"]), expected["outputs"]), again

# One folder serves every Auto class.
whole = root / "AutoModelForSeq2SeqLM" / "again"
ids = torch.tensor([[5, 6, 7, 2]])
for name in AUTO_CLASS_NAMES:
    model = getattr(transformers, name).from_pretrained(whole, trust_remote_code=True)
    given = {"input_ids": ids} if name != "AutoModelForSeq2SeqLM" else {"input_ids": ids, "decoder_input_ids": ids}
    assert outputs_of(model, given).isfinite().all()

# Trainer shifts the labels that it smooths.
from transformers import Trainer, TrainingArguments
model = transformers.AutoModelForCausalLM.from_pretrained(root / "AutoModelForCausalLM", trust_remote_code=True)
arguments = TrainingArguments(root.parent / "trained", label_smoothing_factor=0.1, report_to="none", use_cpu=True)
loss = Trainer(model, arguments).compute_loss(model, {"input_ids": ids, "labels": ids})
shifted = model(ids).logits[0, :-1]
torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(shifted, ids[0, 1:], label_smoothing=0.1))

# Without the flag it would ask, since it looks at the model's configuration first.
tokenizer = AutoTokenizer.from_pretrained(root / "AutoModelForSeq2SeqLM", trust_remote_code=True)
assert tokenizer("I love cats. 私は猫が大好きです。").input_ids == EXPECTED_IDS
model = transformers.AutoModelForSeq2SeqLM.from_pretrained(whole, trust_remote_code=True)
assert model.generate(ids, max_new_tokens=4, num_beams=2).shape[0] == 1
assert not any(name.split(".")[0] == "kakehashi" for name in sys.modules)
print("loaded", len(AUTO_CLASS_NAMES))
"""


def inputs_for(name):
    ids = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    if name in ("AutoModel", "AutoModelForSeq2SeqLM"):
        inputs["decoder_input_ids"] = torch.tensor([[1, 20, 21], [1, 22, 23]])
    return inputs


@pytest.mark.parametrize("model_class", AUTO_CLASSES.values())
def test_every_head_saves_a_folder_complete_with_code(build_tiny_model, tmp_path, model_class):
    build_tiny_model(model_class).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == CODE_FILES
    for name in CODE_FILES:
        assert (tmp_path / name).read_bytes() == (MODELING / name).read_bytes()
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["auto_map"] == AUTO_MAP
    assert config["architectures"] == [model_class.__name__]
    assert (tmp_path / "model.safetensors").exists()


def test_the_map_names_every_head():
    assert {name: value.split(".")[1] for name, value in AUTO_MAP.items() if name != "AutoConfig"} == {
        name: model_class.__name__ for name, model_class in AUTO_CLASSES.items()
    }


def test_the_code_asks_a_hub_user_for_nothing_but_transformers_and_what_it_needs_itself():
    allowed = {"torch", "transformers", "huggingface_hub"} | sys.stdlib_module_names
    for name in CODE_FILES:
        assert set(get_imports(MODELING / name)) <= allowed, name


def test_every_folder_loads_in_a_process_that_has_no_kakehashi(build_tiny_model, tiny_tokenizer, tmp_path):
    root = tmp_path / "folders"
    for name, model_class in AUTO_CLASSES.items():
        model, inputs = build_tiny_model(model_class, num_labels=3), inputs_for(name)
        model.save_pretrained(root / name)
        with torch.no_grad():
            torch.save({"inputs": inputs, "outputs": model(**inputs)[0]}, root / name / "expected.pt")
    tiny_tokenizer.save_pretrained(root / "AutoModelForSeq2SeqLM")
    script = tmp_path / "stranger.py"
    known = {
        "AUTO_CLASS_NAMES": list(AUTO_CLASSES),
        "EXPECTED_IDS": tiny_tokenizer("I love cats. 私は猫が大好きです。").input_ids,
    }
    script.write_text("\n".join(f"{name} = {value!r}" for name, value in known.items()) + STRANGER, "utf-8")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    result = subprocess.run(
        [sys.executable, str(script), str(root)], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip() == "loaded 7"

    for name, model_class in AUTO_CLASSES.items():
        again = root / name / "again"
        assert {path.name for path in again.glob("*.py")} == CODE_FILES
        written = json.loads((again / "config.json").read_text("utf-8"))
        assert written["auto_map"] == AUTO_MAP
        # Round and round: what a stranger saved is what we load.
        with torch.no_grad():
            outputs = model_class.from_pretrained(again)(**inputs_for(name))[0]
        assert torch.equal(outputs, torch.load(root / name / "expected.pt")["outputs"])
