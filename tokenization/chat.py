"""Conversations as token ids: what the encoder reads, what the decoder answers.

```
messages         system "Be brief."   user "Hi!"   assistant "Hello."
encoder source   <|system|> Be brief. <|user|> Hi! </s>
decoder target   Hello. </s>
```

Whatever a user types stays text. `encode_source` and `encode_target` encode each content with
`split_special_tokens=True` and add the markers by id. A chat template renders one string and cannot do that, so it
puts a word joiner (U+2060, invisible) after the `<` of any special token inside a content: no content can forge a
marker either way, and content that spells none gives identical ids both ways.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokenizers import processors
from transformers import PreTrainedTokenizerBase

from kakehashi.tokenization.special_tokens import (
    BOS_TOKEN,
    EOS_TOKEN,
    MASK_TOKEN,
    PAD_TOKEN,
    ROLE_TOKENS,
    SENTINEL_PREFIX,
    list_extra_special_tokens,
    role_id,
)

Message = Mapping[str, Any]

_WORD_JOINER = "\u2060"
_MARKERS = (PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, MASK_TOKEN, *ROLE_TOKENS.values(), SENTINEL_PREFIX)

_TURNS = """\
{%- set markers = ROLE_TOKENS -%}
{%- for message in messages -%}
  {%- if message['role'] not in markers -%}
    {{- raise_exception('`role` of a message must be one of system, user, assistant, got ' ~ message['role']) -}}
  {%- endif -%}
  {{- markers[message['role']] -}}
CONTENT{%- endfor -%}
""".replace("ROLE_TOKENS", str(ROLE_TOKENS))

_CONTENT = """\
  {%- if message['content'] is string -%}
    {{- message['content'] PLAIN -}}
  {%- else -%}
    {%- set joined = namespace(text='') -%}
    {%- for part in message['content'] -%}
      {%- set joined.text = joined.text + part['text'] -%}
    {%- endfor -%}
    {{- joined.text PLAIN -}}
  {%- endif -%}
"""

# What stands between the marks of a generation is what `return_assistant_tokens_mask` counts as the answer.
_CONTENT_AND_ANSWER = f"""\
  {{%- if message['role'] == 'assistant' -%}}
  {{%- generation -%}}
{_CONTENT}  {{{{- 'EOS' -}}}}
  {{%- endgeneration -%}}
  {{%- else -%}}
{_CONTENT}  {{%- endif -%}}
""".replace("EOS", EOS_TOKEN)


def chat_template(extra_special_tokens: Sequence[str] = ()) -> str:
    """Returns the template that renders every turn it is given as one encoder source.

    The decoder starts its turn with `<s>`, so there is nothing for `add_generation_prompt` to add.

    Args:
        extra_special_tokens: special tokens beside our own; a content cannot forge them either.
    """
    return _turns(extra_special_tokens, _CONTENT) + "{{- 'EOS' -}}".replace("EOS", EOS_TOKEN)


def causal_lm_chat_template(extra_special_tokens: Sequence[str] = ()) -> str:
    """Returns the template that renders a whole conversation as one sequence; each answer ends with `</s>`.

    It marks the answers, so that trainers can take them alone as labels (`assistant_only_loss` in TRL).

    Args:
        extra_special_tokens: as for `chat_template`.
    """
    prompt = "{%- if add_generation_prompt -%}{{- 'ASSISTANT' -}}{%- endif -%}"
    return (
        "{{- 'BOS' -}}\n".replace("BOS", BOS_TOKEN)
        + _turns(extra_special_tokens, _CONTENT_AND_ANSWER)
        + prompt.replace("ASSISTANT", ROLE_TOKENS["assistant"])
    )


def _turns(extra_special_tokens: Sequence[str], content: str) -> str:
    # A chain of Jinja filters that leaves no special token of a content whole.
    plain = "".join(
        f" | replace('{marker}', '{marker[0]}{_WORD_JOINER}{marker[1:]}')"
        for marker in (*_MARKERS, *extra_special_tokens)
    )
    return _TURNS.replace("CONTENT", content).replace(" PLAIN", plain)


CHAT_TEMPLATE: Final = chat_template()
"""The template of a tokenizer without special tokens of its own."""


def encode_source(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Returns the encoder input of a conversation: role token and content of each turn, then `</s>`.

    Args:
        tokenizer: a tokenizer made by `train_tokenizer`.
        messages: every turn the encoder is to read, each with `role` and `content` (a string, or a list of parts
            `{"type": "text", "text": …}`).

    Returns:
        Ids, shape (source_length,).

    Raises:
        ValueError: if there is no message, a role is unknown, or a content is not text.
    """
    if not messages:
        raise ValueError("`messages` must hold at least one turn, got none.")
    ids: list[int] = []
    for message in messages:
        ids.append(role_id(tokenizer, message.get("role", "")))
        ids.extend(encode_text(tokenizer, message_text(message)))
    ids.append(tokenizer.eos_token_id)
    return ids


def encode_target(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Returns the labels of an answer: the ids of `text`, then `</s>`; shape (target_length,)."""
    return [*encode_text(tokenizer, text), tokenizer.eos_token_id]


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Returns the ids of `text` alone; a special token spelled in it stays text.

    Raises:
        ValueError: if `text` holds a lone surrogate.
    """
    check_scalar_values(text)
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def check_scalar_values(text: str, name: str = "`text`") -> None:
    """Checks that `text` has a UTF-8 form, which is what a byte-level tokenizer reads.

    Args:
        text: the string to check.
        name: what to call it in the error.

    Raises:
        ValueError: if `text` holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must hold Unicode scalar values only, but character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}: decode the file as UTF-8 or repair it first."
        ) from None


def message_text(message: Message) -> str:
    """Returns the content of a message as one string.

    Raises:
        ValueError: if the content is absent or something else than text.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) and "text" in part for part in content):
        return "".join(part["text"] for part in content)
    raise ValueError(f"`content` of a message must be a string or a list of text parts, got {content!r}.")


def split_last_assistant_turn(messages: Sequence[Message]) -> tuple[list[Message], str]:
    """Returns the turns before the last one, for the encoder, and the text of the last one, for the decoder.

    Raises:
        ValueError: if the last turn is not the assistant's, or nothing stands before it.
    """
    if len(messages) < 2 or messages[-1].get("role") != "assistant":
        roles = ", ".join(str(message.get("role")) for message in messages) or "nothing"
        raise ValueError(f"`messages` must end with an assistant turn after at least one other turn, got {roles}.")
    return list(messages[:-1]), message_text(messages[-1])


def for_causal_lm(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Returns a copy of `tokenizer` for the decoder-only shape: `<s>` before a text, nothing after it.

    Its chat template renders the whole conversation in one sequence, each answer closed by `</s>`.
    """
    causal = copy.deepcopy(tokenizer)
    causal.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS_TOKEN} $A",
        pair=f"{BOS_TOKEN} $A $B",
        special_tokens=[(BOS_TOKEN, tokenizer.bos_token_id)],
    )
    causal.chat_template = causal_lm_chat_template(list_extra_special_tokens(tokenizer))
    return causal
