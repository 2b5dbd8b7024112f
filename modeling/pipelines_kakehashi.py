# Copyright 2026 The kakehashi authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The pipelines `translation`, `summarization` and `text2text-generation`, which Transformers 5 no longer has.

They take and give what those of Transformers 4 did:

    translator = pipeline("translation", model=FOLDER, trust_remote_code=True)
    translator("I love cats.", tgt_lang="ja")                      [{"translation_text": "私は猫が好きです。"}]
    translator(["Hi!", "Bye!"], tgt_lang="ja", batch_size=2)       [{"translation_text": …}, {"translation_text": …}]
    pipeline("translation_en_to_ja", model=FOLDER, …)("Hi!")       [{"translation_text": …}]

and ask the model as `kakehashi generate` and `kakehashi translate` do: a text is what a user says, put into the
instruction the model was tuned on if the task has one, and special tokens typed into it stay plain text.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Pipeline
from transformers.utils import ModelOutput, logging

from .configuration_kakehashi import translation_templates

logger = logging.get_logger(__name__)

DEFAULT_MAX_NEW_TOKENS = 128
"""Longest answer, in tokens, where neither the caller nor the model's generation settings name a length."""

TRANSLATION_TASK = re.compile(r"translation_([A-Za-z-]+)_to_([A-Za-z-]+)")

_WRITER = "ForConditionalGeneration"
_ROLES = ("system", "user", "assistant")


# Its steps are declared narrower than any pipeline that Transformers ships itself fills them.
_Pipeline: Any = Pipeline


class KakehashiText2TextGenerationPipeline(_Pipeline):
    """Text or conversation in, text out: `pipeline("text2text-generation")`.

    Called with one text it returns a list of one record per answer, `[{"generated_text": …}]`; with a list of texts a
    list of records, or of such lists where `num_return_sequences` asks for several answers; with a data set or a
    generator an iterator.

    What a call or the constructor takes beside `batch_size` and `num_workers`:
        truncation: Whether a text longer than the model is meant for is cut (the default) or given whole.
        template: Instruction with `{text}` where the text goes; `None` takes that of the task.
        raw: Whether a text goes to the model as it is, not as the turn of a conversation.
        return_tensors: Whether to return `generated_token_ids` in place of texts.
        stop_sequence: Text, or several, that ends an answer.
        clean_up_tokenization_spaces: As for `decode` of the tokenizer.
        Everything else goes to `generate`: `num_beams`, `max_new_tokens`, `streamer`, `generation_config` and so on.

    Raises:
        ValueError: If the model is no kakehashi encoder-decoder, the tokenizer is missing, a text is empty or not
            text, or the template has no place for the text.
    """

    return_name = "generated"

    _load_tokenizer = True
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_processor = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check_model()

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Answers a text, a conversation, a list of either, or what a data set or generator yields.

        Args:
            inputs: What to answer.
            **kwargs: `batch_size`, `num_workers` and what the class describes.
        """
        if isinstance(inputs, Sequence) and not isinstance(inputs, str):
            # The column of a data set is a sequence, but Transformers takes only a `list` for several texts.
            inputs = list(inputs)
            if not inputs:
                return []
        results = super().__call__(inputs, **kwargs)
        each_has_one = isinstance(results, list) and all(isinstance(each, list) and len(each) == 1 for each in results)
        return [each[0] for each in results] if each_has_one else results

    def _sanitize_parameters(
        self,
        truncation: bool | str | None = None,
        template: str | None = None,
        raw: bool | None = None,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        stop_sequence: str | list[str] | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sorts the parameters of a call by the step that needs them; a step keeps its default for what is not given.

        Raises:
            ValueError: If `template` has no place for the text.
        """
        if template is not None:
            _check_template(template)
        if stop_sequence is not None:
            generate_kwargs["stop_strings"] = stop_sequence
        if return_tensors is None and return_text is not None:
            return_tensors = not return_text
        preprocess = {"truncation": truncation, "template": template, "raw": raw}
        postprocess = {
            "return_tensors": return_tensors,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
        }
        return _given(preprocess), generate_kwargs, _given(postprocess)

    def preprocess(
        self,
        input_: Any,
        truncation: bool | str = True,
        template: str | None = None,
        raw: bool = False,
        **task_parameters: Any,
    ) -> dict[str, torch.Tensor]:
        """Returns what the encoder reads: `input_ids` and `attention_mask`, `(1, source_length)` each.

        Args:
            input_: A text or a conversation.
            truncation: Whether to cut what is longer than `max_position_embeddings`; also the names that tokenizers
                use, of which `"do_not_truncate"` means no.
            template: Instruction with `{text}`; `None` takes that of the task.
            raw: Whether a text goes in as it is.
            **task_parameters: What `task_template` takes.

        Raises:
            ValueError: If the text is empty or not text.
        """
        if isinstance(input_, str):
            _check_text(input_)
            template = template or self.task_template(**task_parameters)
            ids = self._encode_text(input_ if template is None else template.replace("{text}", input_), raw)
        else:
            ids = self._encode_conversation(_messages(input_))
        if truncation not in (False, "do_not_truncate"):
            ids = self._fit(ids)
        input_ids = torch.tensor([ids])
        return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}

    def task_template(self) -> str | None:
        """Returns the instruction that goes with the task, with `{text}` where the text goes; `None` if there is none.

        Any text to any text is no task of its own: the text says what is asked.
        """
        return None

    def _forward(self, model_inputs: dict[str, torch.Tensor], **generate_kwargs: Any) -> dict[str, torch.Tensor]:
        """Returns `output_ids`, `(batch, num_return_sequences, target_length)`."""
        output = self.model.generate(**model_inputs, **self._with_defaults(generate_kwargs))
        sequences = output["sequences"] if isinstance(output, ModelOutput) else output
        return {"output_ids": sequences.reshape(len(model_inputs["input_ids"]), -1, sequences.shape[-1])}

    def postprocess(
        self,
        model_outputs: dict[str, torch.Tensor],
        return_tensors: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[dict[str, Any]]:
        """Returns a record for each answer to one text: its text, or its ids `(target_length,)`."""
        answers = model_outputs["output_ids"][0]
        if return_tensors:
            return [{f"{self.return_name}_token_ids": ids} for ids in answers]
        decode = self.tokenizer.decode
        settings = {
            "skip_special_tokens": True,
            **_given({"clean_up_tokenization_spaces": clean_up_tokenization_spaces}),
        }
        return [{f"{self.return_name}_text": decode(ids, **settings).strip()} for ids in answers]

    def _with_defaults(self, generate_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Adds the length and the tokenizer that `generate` needs and the caller did not give."""
        settings = dict(generate_kwargs)
        asked = settings.get("generation_config")
        places = (settings, {} if asked is None else vars(asked), vars(self.model.generation_config))
        if not any(place.get(name) for place in places for name in ("max_new_tokens", "max_length")):
            if asked is None:
                settings["max_new_tokens"] = DEFAULT_MAX_NEW_TOKENS
            else:
                # `generate` takes single settings beside a `generation_config` no more.
                settings["generation_config"] = copy.deepcopy(asked)
                settings["generation_config"].max_new_tokens = DEFAULT_MAX_NEW_TOKENS
        if "stop_strings" in settings:
            settings.setdefault("tokenizer", self.tokenizer)
        return settings

    def _encode_text(self, text: str, raw: bool) -> list[int]:
        tokenizer = self.tokenizer
        if tokenizer.chat_template is None or raw:
            return tokenizer(text, split_special_tokens=True)["input_ids"]
        return self._encode_conversation([{"role": "user", "content": text}])

    def _encode_conversation(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Returns the ids of a conversation, its markers put in by id so that no content can forge one."""
        tokenizer = self.tokenizer
        markers = {role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in _ROLES}
        if markers["user"] in (None, tokenizer.unk_token_id):
            if tokenizer.chat_template is None:
                raise ValueError("`inputs` must be plain texts: the tokenizer of this model has no chat template.")
            return tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False)
        ids: list[int] = []
        for message in messages:
            role, content = message.get("role"), message.get("content")
            if role not in markers:
                raise ValueError(f"`role` of a message must be one of {', '.join(markers)}, got {role!r}.")
            text = content if isinstance(content, str) else "".join(part["text"] for part in content or [])
            _check_text(text)
            ids += [markers[role], *tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]]
        return [*ids, tokenizer.eos_token_id]

    def _fit(self, ids: list[int]) -> list[int]:
        """Returns the ids cut to what the model is meant for; the end mark stays, so that the text ends."""
        limit = self.model.config.max_position_embeddings
        if len(ids) <= limit:
            return ids
        logger.warning(f"A text of {len(ids)} tokens was cut to the {limit} that the model is meant for.")
        end = self.tokenizer.eos_token_id
        return [*ids[: limit - 1], end] if ids[-1] == end else ids[:limit]

    def _check_model(self) -> None:
        """Checks that model and tokenizer are there and can do the task.

        Raises:
            ValueError: As the class.
        """
        config, kind = self.model.config, type(self.model).__name__
        # A folder of another shape loads as an encoder-decoder too, with a stack that was never trained.
        architecture = (getattr(config, "architectures", None) or [kind])[0]
        if config.model_type != "kakehashi":
            raise ValueError(
                f"The pipeline {self.task!r} of kakehashi is for kakehashi models, got {kind}: Transformers 5 has no "
                "pipeline of that name for other models."
            )
        if not config.is_encoder_decoder or not architecture.endswith((_WRITER, "KakehashiModel")):
            advice = ': use the pipeline "text-generation"' if architecture.endswith("ForCausalLM") else ""
            raise ValueError(
                f"The pipeline {self.task!r} needs a model that reads a source and writes a target, "
                f"got {architecture}{advice}."
            )
        if self.tokenizer is None:
            raise ValueError(f"The pipeline {self.task!r} needs a `tokenizer` beside a model given as an object.")


class KakehashiSummarizationPipeline(KakehashiText2TextGenerationPipeline):
    """Text in, summary out: `pipeline("summarization")` returns `[{"summary_text": …}]`.

    The instruction is `task_specific_params["summarization"]["template"]` of the configuration, or the `template` that
    is given. A model that names none gets the text as it is.
    """

    return_name = "summary"

    def task_template(self) -> str | None:
        """Returns the instruction that the model was tuned on to summarize, if it names one.

        Raises:
            ValueError: If that instruction has no place for the text.
        """
        tasks = getattr(self.model.config, "task_specific_params", None) or {}
        template = tasks.get("summarization", {}).get("template")
        if template is not None:
            _check_template(template)
        return template


class KakehashiTranslationPipeline(KakehashiText2TextGenerationPipeline):
    """Text in, its translation out: `pipeline("translation")` returns `[{"translation_text": …}]`.

    `tgt_lang` names the language to translate into; it stands in the name of the task, as in `translation_en_to_ja`,
    in the constructor or in the call. It may be left out where `src_lang` leaves only one: the instructions that the
    model was tuned on name the languages, see `translation_templates`.

    Raises:
        ValueError: If a language is unknown or missing, or both are the same.
    """

    return_name = "translation"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = {name: self._preprocess_params.get(name) for name in ("src_lang", "tgt_lang", "template")}
        if given["template"] is None and (TRANSLATION_TASK.fullmatch(self.task) or given["tgt_lang"] is not None):
            # Not with the first text: the languages are named here.
            self.task_template(given["src_lang"], given["tgt_lang"])

    def _sanitize_parameters(  # type: ignore[override]
        self, src_lang: str | None = None, tgt_lang: str | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Takes the languages as well."""
        preprocess, forward, postprocess = super()._sanitize_parameters(**parameters)
        return {**preprocess, **_given({"src_lang": src_lang, "tgt_lang": tgt_lang})}, forward, postprocess

    def task_template(self, src_lang: str | None = None, tgt_lang: str | None = None) -> str | None:
        """Returns the instruction that the model was tuned on to translate into the language asked for.

        Args:
            src_lang: Language of the text. The instructions do not name it.
            tgt_lang: Language to translate into. `None` takes that of the task's name, or the only one that is left.

        Raises:
            ValueError: As the class.
        """
        named = TRANSLATION_TASK.fullmatch(self.task)
        if named is not None and src_lang is None and tgt_lang is None:
            src_lang, tgt_lang = named.groups()
        templates = translation_templates(self.model.config)
        known = ", ".join(sorted(templates))
        if tgt_lang is None:
            left = [language for language in templates if language != src_lang]
            if len(left) != 1 or (src_lang is not None and len(templates) > 1 and src_lang not in templates):
                got = "none" if src_lang is None else f"none for the source {src_lang!r}"
                raise ValueError(f"`tgt_lang` must be one of {known}, got {got}.")
            (tgt_lang,) = left
        if tgt_lang not in templates:
            raise ValueError(f"`tgt_lang` must be one of {known}, got {tgt_lang!r}.")
        if src_lang == tgt_lang:
            raise ValueError(f"`src_lang` and `tgt_lang` must differ, got {tgt_lang!r} for both.")
        return templates[tgt_lang]


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that have a value."""
    return {name: value for name, value in parameters.items() if value is not None}


def _messages(value: Any) -> list[Mapping[str, Any]]:
    """Returns the turns of a conversation, which Transformers wraps in an object of its own.

    Raises:
        ValueError: If the value is neither a text nor a conversation.
    """
    messages = getattr(value, "messages", value)
    if not isinstance(messages, (list, tuple)) or not all(isinstance(each, Mapping) for each in messages):
        raise ValueError(f"`inputs` must be texts or conversations, got {type(value).__name__}: {value!r}.")
    return list(messages)


def _check_text(text: str) -> None:
    """Checks that there is something to read, in a form that a byte-level tokenizer can.

    Raises:
        ValueError: If the text is empty or holds a lone surrogate.
    """
    if not text.strip():
        raise ValueError(f"Each text must hold at least one character, got {text!r}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        surrogate = f"U+{ord(text[error.start]):04X}"
        raise ValueError(
            f"A text must hold Unicode scalar values only, but character {error.start} is the lone {surrogate}."
        ) from None


def _check_template(template: str) -> None:
    """Checks that an instruction says where the text goes.

    Raises:
        ValueError: If it does not.
    """
    if "{text}" not in template:
        raise ValueError(f"`template` must hold {{text}} where the text goes, got {template!r}.")


__all__ = [
    "KakehashiSummarizationPipeline",
    "KakehashiText2TextGenerationPipeline",
    "KakehashiTranslationPipeline",
]
