"""The one list of special tokens and the ids they get.

```
id     0      1    2     3       4           5         6              7               8            …
token  <pad>  <s>  </s>  <mask>  <|system|>  <|user|>  <|assistant|>  <extra_id_0>  <extra_id_1>  …  256 bytes, merges
```

There is no unknown token: every string is bytes, and every byte is in the vocabulary.
"""

from collections.abc import Sequence
from typing import Final

from transformers import PreTrainedTokenizerBase

PAD_TOKEN: Final = "<pad>"
BOS_TOKEN: Final = "<s>"
"""Starts every decoder input."""
EOS_TOKEN: Final = "</s>"
MASK_TOKEN: Final = "<mask>"
ROLE_TOKENS: Final = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SENTINEL_PREFIX: Final = "<extra_id_"
NUM_BYTES: Final = 256


def sentinel_token(index: int) -> str:
    """Returns the sentinel that stands for the removed span number `index`, counted from 0.

    Raises:
        ValueError: if `index` is negative.
    """
    if index < 0:
        raise ValueError(f"`index` of a sentinel must be 0 or more, got {index}.")
    return f"{SENTINEL_PREFIX}{index}>"


def list_special_tokens(num_sentinels: int = 100, extra: Sequence[str] = ()) -> list[str]:
    """Returns every special token, in the order of their ids.

    Args:
        num_sentinels: number of span-corruption sentinels, 0 or more.
        extra: further special tokens, after the sentinels.

    Raises:
        ValueError: if `num_sentinels` is negative, or one of `extra` is there already or cannot be one.
    """
    if num_sentinels < 0:
        raise ValueError(f"`num_sentinels` must be 0 or more, got {num_sentinels}.")
    sentinels = [sentinel_token(index) for index in range(num_sentinels)]
    tokens = [PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, MASK_TOKEN, *ROLE_TOKENS.values(), *sentinels]
    check_special_tokens(extra, tokens)
    return [*tokens, *extra]


def check_special_tokens(tokens: Sequence[str], present: Sequence[str]) -> None:
    """Checks that further special tokens can join those present.

    Args:
        tokens: the further ones.
        present: special tokens that are there already.

    Raises:
        ValueError: if one occurs twice, is present, or is not made of two or more visible characters without quotes
            and backslashes, which a chat template could not hold.
    """
    seen = set(present)
    for token in tokens:
        if len(token) < 2 or not token.isprintable() or set(token) & set(" '\"\\"):
            raise ValueError(
                "a special token must be two or more visible characters without spaces, quotes and backslashes, "
                f"got {token!r}."
            )
        if token in seen or token.startswith(SENTINEL_PREFIX):
            raise ValueError(f"special tokens must differ from each other, but {token!r} is there twice.")
        seen.add(token)


def list_extra_special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Returns the special tokens of `tokenizer` beside our own and the sentinels, in the order of their ids."""
    own = set(list_special_tokens(num_sentinels=0))
    special = [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    return [token for token in special if token not in own and not token.startswith(SENTINEL_PREFIX)]


def sentinel_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Returns the ids of the sentinels of `tokenizer`, `<extra_id_0>` first; empty if it has none."""
    vocabulary = tokenizer.get_vocab()
    ids: list[int] = []
    while (token := sentinel_token(len(ids))) in vocabulary:
        ids.append(vocabulary[token])
    return ids


def role_id(tokenizer: PreTrainedTokenizerBase, role: str) -> int:
    """Returns the id of the token that opens a turn of `role`.

    Raises:
        ValueError: if the role is unknown, or the tokenizer was made without role tokens.
    """
    if role not in ROLE_TOKENS:
        raise ValueError(f"`role` of a message must be one of {', '.join(ROLE_TOKENS)}, got {role!r}.")
    # Not by `get_vocab`, which copies the whole vocabulary each time: this runs for every turn of a corpus.
    token_id = tokenizer.convert_tokens_to_ids(ROLE_TOKENS[role])
    if not isinstance(token_id, int) or token_id == tokenizer.unk_token_id:
        raise ValueError(
            f"`tokenizer` must know the role token {ROLE_TOKENS[role]}, but it does not: train one with "
            "`kakehashi tokenizer train`, or add the token and resize the model."
        )
    return token_id
