"""The card of a trained model, filled from what its run left behind and from nothing typed by hand."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData
from safetensors import safe_open

_RUN_FILES = ("config.json", "recipe.yaml", "versions.json", "metrics.json")
# Recipe keys that the table of data shows, by the role they have there.
_DATA_KEYS = {"training": "train_files", "validation": "validation_files", "test": "test_files"}
# Recipe keys whose values may hold folders of the machine that trained.
_PATH_KEYS = ("model", "tokenizer", *_DATA_KEYS.values())
# Facts of the machine and the commit; `command` and `platform` would tell folder and host names.
_ENVIRONMENT_KEYS_LEFT_OUT = ("command", "platform")


@dataclass(frozen=True)
class _Head:
    """What a card says of one model class: its Auto class, its Hub task, its purpose, and how to call it."""

    auto_class: str
    pipeline_tag: str | None
    intended_use: str
    call: str


_CHAT_CALL = """\
messages = [{"role": "user", "content": "Translate to Japanese: I love cats."}]
inputs = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
output_ids = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output_ids[0], skip_special_tokens=True))"""
_GENERATE_CALL = """\
inputs = tokenizer("I love", return_tensors="pt")
output_ids = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output_ids[0], skip_special_tokens=True))"""
_CLASSIFY_CALL = """\
inputs = tokenizer("I love cats.", return_tensors="pt")
print(model.config.id2label[model(**inputs).logits.argmax(-1).item()])"""
_FILL_CALL = """\
inputs = tokenizer("I love<mask>.", return_tensors="pt")
best_ids = model(**inputs).logits[0].argmax(-1)
print(tokenizer.decode(best_ids[inputs["input_ids"][0] == tokenizer.mask_token_id]))"""

_HEADS = {
    "KakehashiForConditionalGeneration": _Head(
        "AutoModelForSeq2SeqLM",
        None,
        "It continues a text and restores what was cut out of it, and is a start for instruction tuning. It was not "
        "taught to follow instructions.",
        _GENERATE_CALL,
    ),
    "KakehashiForCausalLM": _Head(
        "AutoModelForCausalLM",
        "text-generation",
        "It continues a text. It was not taught to follow instructions unless the data below did so.",
        _GENERATE_CALL,
    ),
    "KakehashiForMaskedLM": _Head(
        "AutoModelForMaskedLM",
        "fill-mask",
        "It fills hidden tokens in, and is a start for classifiers. It does not generate text.",
        _FILL_CALL,
    ),
    "KakehashiForSequenceClassification": _Head(
        "AutoModelForSequenceClassification",
        "text-classification",
        "It sorts texts into the labels of its configuration. A text that fits none of them still gets one.",
        _CLASSIFY_CALL,
    ),
}

_INSTRUCTED = _Head(
    "AutoModelForSeq2SeqLM",
    None,
    "It answers instructions like those of the data below, and no others.",
    _CHAT_CALL,
)


def write_model_card(
    run_dir: str | os.PathLike[str],
    *,
    name: str | None = None,
    data_licence: str | None = None,
    languages: Sequence[str] = (),
    licence: str = "apache-2.0",
) -> Path:
    """Writes the `README.md` of a finished run, from its recipe, versions, metrics and weights.

    Args:
        run_dir: Folder of a finished run.
        name: Name of the model on the Hub, such as `user/name`. `None` means the folder's name.
        data_licence: Licence of the training data; `None` makes the card say that it is not stated.
        languages: Codes of the languages the model knows, such as `["en", "ja"]`.
        licence: Licence of the weights, as the Hub spells it.

    Returns:
        The file written.

    Raises:
        ValueError: If the folder is not that of a finished run, or its model is of a class without a card.
    """
    folder = Path(run_dir)
    config, recipe, versions, metrics = _read_run(folder)
    class_name = (config.get("architectures") or ["none"])[0]
    if class_name not in _HEADS:
        raise ValueError(f"the model in {folder} must be one of {', '.join(_HEADS)}, got {class_name}")
    instructed = class_name == "KakehashiForConditionalGeneration" and _stage_of_run(folder) == "instruct"
    head = _INSTRUCTED if instructed else _HEADS[class_name]
    name = name or folder.resolve().name
    card = ModelCard.from_template(
        _card_data(head, name, recipe, languages, licence),
        template_str=resources.files("kakehashi.model_cards").joinpath("template.md").read_text(encoding="utf-8"),
        name=name,
        summary=f"A `{class_name}` of {count_stored_parameters(folder):,} parameters, made by kakehashi.",
        intended_use=head.intended_use,
        usage=_usage(head, name),
        data=_describe_data(recipe),
        data_licence=data_licence,
        training=_describe_start(recipe),
        arguments=_chosen_arguments(recipe),
        metrics={key: _format_number(value) for key, value in metrics.items() if _is_number(value)},
        environment={
            key.replace("_", " "): value
            for key, value in versions.items()
            if value is not None and key not in _ENVIRONMENT_KEYS_LEFT_OUT
        },
        has_curve=(folder / "loss.png").is_file(),
    )
    aside = folder / ".README.md.writing"
    aside.write_text(str(card), encoding="utf-8")
    os.replace(aside, folder / "README.md")
    return folder / "README.md"


def _read_run(folder: Path) -> list[dict[str, Any]]:
    """Returns configuration, recipe, versions and metrics of a run."""
    missing = [name for name in _RUN_FILES if not (folder / name).is_file()]
    if missing or not list(folder.glob("*.safetensors")):
        raise ValueError(
            f"`run_dir` must be the folder of a finished run, got {folder} without "
            f"{', '.join(missing) or 'weights'}: a card is filled from a run, train one first"
        )
    texts = [(folder / name).read_text(encoding="utf-8") for name in _RUN_FILES]
    return [
        yaml.safe_load(text) or {} if name.endswith(".yaml") else json.loads(text)
        for name, text in zip(_RUN_FILES, texts, strict=True)
    ]


def _stage_of_run(folder: Path) -> str | None:
    """Returns the command that the header of a run's recipe names, which tells pretraining from instruction tuning."""
    header = (folder / "recipe.yaml").read_text(encoding="utf-8")
    command = re.search(r"^#\s+kakehashi ([a-z]+) ", header, re.MULTILINE)
    return command.group(1) if command else None


def count_stored_parameters(folder: Path) -> int:
    """Returns the number of weights stored in a model folder, a tied one once, without loading them.

    Args:
        folder: Folder with one or several `.safetensors` files.
    """
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="np") as weights:
            # `safe_open` has no length and is no mapping: `keys` is all there is.
            total += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return total


def _card_data(
    head: _Head, name: str, recipe: Mapping[str, Any], languages: Sequence[str], licence: str
) -> ModelCardData:
    """Returns the metadata that the Hub reads; what only this machine knows, such as a local folder, stays out."""
    start = recipe.get("model")
    data_sets = [source for source in recipe.get("train_files") or [] if _is_hub_id(source)]
    return ModelCardData(
        model_name=name,
        language=list(languages) or None,
        license=licence,
        library_name="transformers",
        pipeline_tag=head.pipeline_tag,
        tags=["kakehashi"],
        base_model=start if start and _is_hub_id(start) else None,
        datasets=data_sets or None,
    )


def _is_hub_id(source: str) -> bool:
    """Whether a source is `user/name` on the Hub rather than something on this machine."""
    local = source.startswith(("/", ".", "~")) or any(sign in source for sign in "*?[") or Path(source).exists()
    return source.count("/") == 1 and not local and not Path(source).suffix


def _shown(source: str) -> str:
    """Returns a source as a stranger may see it: a Hub id whole, of a local path only the last name."""
    return source if _is_hub_id(source) else Path(source).name


def _describe_data(recipe: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the names of the data by the role they had."""
    described = {}
    for role, key in _DATA_KEYS.items():
        sources = recipe.get(key) or []
        sources = [sources] if isinstance(sources, str) else sources
        if sources:
            described[role] = [f"`{_shown(source)}`" for source in sources]
    return described


def _describe_start(recipe: Mapping[str, Any]) -> str:
    """Returns a sentence on the weights that training began from."""
    start = recipe.get("model")
    if start:
        return f"Training started from `{_shown(start)}`."
    return f"Training started from random weights of the preset `{recipe.get('preset')}`."


def _chosen_arguments(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the recipe's keys and values, without those that name folders."""
    return {key: value for key, value in recipe.items() if key not in (*_PATH_KEYS, "output_dir")}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _format_number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _usage(head: _Head, name: str) -> str:
    """Returns Python that loads the model from the Hub and calls it once."""
    return (
        f"from transformers import {head.auto_class}, AutoTokenizer\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(name)})\n"
        f"model = {head.auto_class}.from_pretrained({json.dumps(name)}, trust_remote_code=True)\n"
        f"{head.call}"
    )
