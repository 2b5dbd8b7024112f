"""A program of its own: loads model folders as a stranger does, with Transformers alone.

Run it by its path, in a fresh process (`python -I load_without_kakehashi.py REQUEST.json`). It hides kakehashi from
the import system first, so that whatever loads, loads from the code inside the folder.

The request holds `translation` (`model`, `texts`) and `classification` (the same) and, under `folders`, an Auto class
for each folder to load; the answer on stdout holds `translation` (texts), `classification` (labels) and `classes`
(the class that each folder gave).
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

    with torch.inference_mode():
        translated = _generate(models, request["translation"])
        classification = request["classification"]
        classifier = models[classification["model"]]
        batch = _tokenizer(classification["model"])(classification["texts"], padding=True, return_tensors="pt")
        best = classifier(**batch).logits.argmax(-1).tolist()
    labels = [classifier.config.id2label[index] for index in best]
    return {"translation": translated, "classification": labels, "classes": classes}


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
