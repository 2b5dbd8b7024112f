"""What a card says of each kind of model: its Auto class, its task on the Hub, its purpose, and code that calls it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CardHead:
    """What a card says of one kind of model.

    Attributes:
        auto_class: Auto class that loads it.
        pipeline_tag: Its task on the Hub; None where the Hub has none for it.
        intended_use: Its purpose, in English.
        intended_use_ja: The same in Japanese.
        call: Python that calls `model` with `tokenizer` once and prints the answer.
    """

    auto_class: str
    pipeline_tag: str | None
    intended_use: str
    intended_use_ja: str
    call: str

    def usage(self, name: str) -> str:
        """Returns Python that loads the model `name` from the Hub and calls it once."""
        return (
            f"from transformers import {self.auto_class}, AutoTokenizer\n\n"
            f"name = {json.dumps(name)}\n"
            # Without the flag Transformers would ask, since it looks at the model's configuration first.
            "tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)\n"
            f"model = {self.auto_class}.from_pretrained(name, trust_remote_code=True)\n\n"
            f"{self.call}"
        )


_CHAT_CALL = """\
messages = [{"role": "user", "content": QUESTION}]
inputs = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
output_ids = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output_ids[0], skip_special_tokens=True))"""
_TRANSLATE_CALL = """

# The same as a pipeline, which finds the instruction itself.
from transformers import pipeline

translator = pipeline("translation", model=name, trust_remote_code=True)
print(translator("I love cats.", tgt_lang="LANGUAGE")[0]["translation_text"])"""
_GENERATE_CALL = """\
inputs = tokenizer("I love", return_tensors="pt")
output_ids = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output_ids[0], skip_special_tokens=True))"""
_CLASSIFY_CALL = """\
inputs = tokenizer("I love cats.", return_tensors="pt")
print(model.config.id2label[model(**inputs).logits.argmax(-1).item()])"""
_SEVERAL_LABELS_CALL = """\
inputs = tokenizer("I love cats.", return_tensors="pt")
probabilities = model(**inputs).logits[0].sigmoid().tolist()
print({model.config.id2label[index]: probability for index, probability in enumerate(probabilities)})"""
_REGRESSION_CALL = """\
inputs = tokenizer("I love cats.", return_tensors="pt")
print(model(**inputs).logits[0].tolist())"""
_FILL_CALL = """\
inputs = tokenizer("I love<mask>.", return_tensors="pt")
best_ids = model(**inputs).logits[0].argmax(-1)
print(tokenizer.decode(best_ids[inputs["input_ids"][0] == tokenizer.mask_token_id]))"""

_HEADS = {
    "KakehashiForConditionalGeneration": CardHead(
        "AutoModelForSeq2SeqLM",
        None,
        "It continues a text and restores what was cut out of it, and is a start for instruction tuning. It was not "
        "taught to follow instructions.",
        "文章の続きを書き、抜けた部分を補います。指示学習の出発点として使うもので、指示に従うようには学習していません。",
        _GENERATE_CALL,
    ),
    "KakehashiForCausalLM": CardHead(
        "AutoModelForCausalLM",
        "text-generation",
        "It continues a text. It was not taught to follow instructions unless the data below did so.",
        "文章の続きを書きます。下記のデータに指示が含まれない限り、指示に従うようには学習していません。",
        _GENERATE_CALL,
    ),
    "KakehashiForMaskedLM": CardHead(
        "AutoModelForMaskedLM",
        "fill-mask",
        "It fills hidden tokens in, and is a start for classifiers. It does not generate text.",
        "隠されたトークンを補います。分類器の出発点として使うもので、文章は生成しません。",
        _FILL_CALL,
    ),
    "KakehashiForSequenceClassification": CardHead(
        "AutoModelForSequenceClassification",
        "text-classification",
        "It sorts texts into the labels of its configuration. A text that fits none of them still gets one.",
        "文章を設定にあるラベルのいずれかに分類します。どれにも当てはまらない文章にも、必ずいずれかのラベルを付けます。",
        _CLASSIFY_CALL,
    ),
}
_SEVERAL_LABELS = CardHead(
    "AutoModelForSequenceClassification",
    "text-classification",
    "It says of each label of its configuration how probable it is for a text; several may fit, or none.",
    "設定にある各ラベルについて、文章に当てはまる確率を答えます。複数が当てはまることも、一つも当てはまらないこともあります。",
    _SEVERAL_LABELS_CALL,
)
_REGRESSION = CardHead(
    "AutoModelForSequenceClassification",
    "text-classification",
    "It gives a text a number, on the scale of the data below.",
    "下記のデータの尺度で、文章に数値を付けます。",
    _REGRESSION_CALL,
)


def card_head(config: Mapping[str, Any], stage: str | None) -> CardHead | None:
    """Returns what a card says of a model; None where there is nothing to say, for lack of a task.

    Args:
        config: Content of its `config.json`.
        stage: Command that trained it, such as `instruct`.
    """
    architecture = (config.get("architectures") or ["none"])[0]
    head = _HEADS.get(architecture)
    if architecture == "KakehashiForSequenceClassification":
        kinds = {"multi_label_classification": _SEVERAL_LABELS, "regression": _REGRESSION}
        return kinds.get(config.get("problem_type") or "", head)
    if architecture != "KakehashiForConditionalGeneration" or stage != "instruct":
        return head
    templates = ((config.get("task_specific_params") or {}).get("translation")) or {}
    call = _CHAT_CALL.replace("QUESTION", json.dumps(_example_question(templates), ensure_ascii=False))
    return CardHead(
        "AutoModelForSeq2SeqLM",
        "translation" if templates else None,
        "It answers instructions like those of the data below, and no others."
        + (f" It translates into: {', '.join(templates)}." if templates else ""),
        "下記のデータにあるような指示に答えます。それ以外の指示には答えられません。"
        + (f"翻訳先の言語: {', '.join(templates)}。" if templates else ""),
        call + (_TRANSLATE_CALL.replace("LANGUAGE", _example_language(templates)) if templates else ""),
    )


def _example_question(templates: Mapping[str, str]) -> str:
    """Returns an instruction of the kind that a model was tuned on: into another language than English, if it can."""
    into = _example_language(templates)
    text = "I love cats." if into != "en" or not templates else "私は猫が大好きです。"
    return templates.get(into, "{text}").replace("{text}", text)


def _example_language(templates: Mapping[str, str]) -> str:
    """Returns the first language other than English that a model translates into, else English."""
    return next((language for language in templates if language != "en"), "en")


def list_described_architectures() -> list[str]:
    """Returns the names of the model classes that a card can be written for."""
    return list(_HEADS)
