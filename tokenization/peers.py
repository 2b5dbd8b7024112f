"""Tokenizers to count with, ours and others': a folder, a Hub id, or an encoding of tiktoken."""

import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from kakehashi.tokenization.hub_ids import may_be_hub_id, naming_hub_id

TokenCounter: TypeAlias = Callable[[Sequence[str]], list[int]]
"""Returns the number of tokens of each text; special tokens spelled in a text count as text."""

TIKTOKEN_PREFIX: Final = "tiktoken:"
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.txt",
    "vocab.json",
)
"""One of these is in every folder that holds a tokenizer."""

_TIKTOKEN_NAME = re.compile(r"[a-z]+\d+k_[a-z]+")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Returns the tokenizer in folder `name`, or the one of that Hub id.

    Raises:
        ValueError: if `name` is a folder or file without a tokenizer.
        OSError: if there is no such folder, and the Hub gives no tokenizer of that name.
    """
    path = Path(name)
    if (path.exists() or not may_be_hub_id(name)) and not any((path / file).is_file() for file in TOKENIZER_FILES):
        raise ValueError(f"`{name}` must be a folder with a tokenizer.json, but it has none.")
    with naming_hub_id(name):
        return AutoTokenizer.from_pretrained(name)


def load_counter(name: str) -> TokenCounter:
    """Returns a function that counts tokens with the tokenizer of that name.

    Args:
        name: a tokenizer or model folder, a Hub id, or an encoding of tiktoken such as `o200k_base`
            (`tiktoken:gpt2` where a Hub id has the same name).

    Raises:
        ValueError: if tiktoken is asked for and not installed, or does not know the encoding; otherwise as
            `load_tokenizer`.
        OSError: as `load_tokenizer`.
    """
    if not Path(name).exists() and (name.startswith(TIKTOKEN_PREFIX) or _TIKTOKEN_NAME.fullmatch(name)):
        return _count_with_tiktoken(name.removeprefix(TIKTOKEN_PREFIX))
    tokenizer = load_tokenizer(name)
    return lambda texts: count_tokens(tokenizer, texts)


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    """Returns the number of tokens of each text, special tokens left out and those spelled in it read as text."""
    encoded = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    )["input_ids"]
    return [len(ids) for ids in encoded]


def _count_with_tiktoken(name: str) -> TokenCounter:
    try:
        tiktoken: Any = importlib.import_module("tiktoken")
    except ImportError:
        raise ValueError(
            f"`{name}` is an encoding of tiktoken, which is not installed: pip install tiktoken"
        ) from None
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise ValueError(f"tiktoken must know the encoding `{name}`, but it has only {', '.join(known)}.")
    encoding = tiktoken.get_encoding(name)
    return lambda texts: [len(ids) for ids in encoding.encode_ordinary_batch(list(texts))]
