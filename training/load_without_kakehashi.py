"""A program of its own: loads model folders as a stranger does, with Transformers alone.

Run it by its path, in a fresh process (`python -I load_without_kakehashi.py REQUEST.json`). It hides kakehashi from
the import system first, so that whatever loads, loads from the code inside the folder.

The request holds, under `folders`, an Auto class for each folder to load, and may hold `translation` (`model`,
`texts`), `classification` (the same) and `outputs` (`model`, `inputs` as lists of ids by their name, `file`).

The answer on stdout holds `classes` (the class that each folder gave), `auto_map` (for each folder the class that each
entry of its map and each pipeline of its own gives), and `translation` (texts) and `classification` (labels) where
they were asked for. The model's first output goes to the safetensors file of `outputs`.
"""

from __future__ import annotations

import json
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any


class HideKakehashi(MetaPathFinder):
    """Makes `import kakehashi` fail as if it had never been installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Refuses kakehashi and leaves every other module to the finders behind this one."""
        if fullname.partition(".")[0] == "kakehashi":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Loads what the request names and runs its texts through it.

    Args:
        request: As the module's docstring describes.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    classes = {}
    models = {}
    for folder, auto_name in request["folders"].items():
        auto_class = getattr(transformers, auto_name)
        models[folder] = auto_class.from_pretrained(folder, trust_remote_code=True).eval()
        classes[folder] = f"{auto_name} → {type(models[folder]).__name__}"

    reply: dict[str, Any] = {"classes": classes, "auto_map": {folder: _mapped_classes(folder) for folder in models}}
    with torch.inference_mode():
        if "translation" in request:
            reply["translation"] = _generate(models, request["translation"])
        if "classification" in request:
            reply["classification"] = _classify(models, request["classification"])
        if "outputs" in request:
            _write_outputs(models, request["outputs"])
    return reply


def _mapped_classes(folder: str) -> dict[str, str]:
    """Returns the name of the class that each Auto class and each pipeline of its own finds in a folder's code."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    homes = {**config["auto_map"], **{task: each["impl"] for task, each in config.get("custom_pipelines", {}).items()}}
    return {name: get_class_from_dynamic_module(home, folder).__name__ for name, home in homes.items()}


def _classify(models: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """Returns the likeliest label of each text."""
    classifier = models[request["model"]]
    batch = _tokenizer(request["model"])(request["texts"], padding=True, return_tensors="pt")
    best = classifier(**batch).logits.argmax(-1).tolist()
    return [classifier.config.id2label[index] for index in best]


def _write_outputs(models: dict[str, Any], request: dict[str, Any]) -> None:
    """Runs a model on ids and writes its first output."""
    import torch
    from safetensors.torch import save_file

    inputs = {name: torch.tensor(ids) for name, ids in request["inputs"].items()}
    save_file({"outputs": models[request["model"]](**inputs)[0].contiguous()}, request["file"])


def _tokenizer(folder: str) -> Any:
    import transformers

    # The tokenizer is a plain one, but Transformers reads the model's configuration to find that out.
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


def _generate(models: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """Answers each text as one turn of a user."""
    tokenizer = _tokenizer(request["model"])
    turns = [[{"role": "user", "content": text}] for text in request["texts"]]
    batch = tokenizer.apply_chat_template(turns, padding=True, return_tensors="pt", return_dict=True)
    generated = models[request["model"]].generate(**batch, max_new_tokens=48, do_sample=False)
    return tokenizer.batch_decode(generated, skip_special_tokens=True)


def main() -> None:
    """Answers the request whose file the command line names."""
    sys.meta_path.insert(0, HideKakehashi())
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    json.dump(answer(request), sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
