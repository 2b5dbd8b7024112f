"""The one list of special tokens and the ids they get.

```
id     0      1    2     3       4           5         6              7               8            …
token  <pad>  <s>  </s>  <mask>  <|system|>  <|user|>  <|assistant|>  <extra_id_0>  <extra_id_1>  …  256 bytes, merges
```

There is no unknown token: every string is bytes, and every byte is in the vocabulary.
"""

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


def list_special_tokens(num_sentinels: int = 100) -> list[str]:
    """Returns every special token, in the order of their ids.

    Args:
        num_sentinels: number of span-corruption sentinels, 0 or more.

    Raises:
        ValueError: if `num_sentinels` is negative.
    """
    if num_sentinels < 0:
        raise ValueError(f"`num_sentinels` must be 0 or more, got {num_sentinels}.")
    sentinels = [sentinel_token(index) for index in range(num_sentinels)]
    return [PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, MASK_TOKEN, *ROLE_TOKENS.values(), *sentinels]


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
