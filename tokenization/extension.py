"""New entries for a trained vocabulary, and new rows for a model that uses it; every old id stays.

```
before    0 <pad> … 15,999 です
after     0 <pad> … 15,999 です   16,000 架け橋   16,001 <filler 0> … 16,063 <filler 62>
                                  mean of 架 け 橋   mean of all rows
```

An added entry is found in a text before the text is split, wherever it stands; name one with the space before it
(" kakehashi") if it is an English word that follows others.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.tokenization.chat import causal_lm_chat_template, chat_template, check_scalar_values
from kakehashi.tokenization.special_tokens import check_special_tokens, list_extra_special_tokens
from kakehashi.tokenization.vocabulary import add_fillers, backend_content, is_filler

DEFAULT_MULTIPLE = 64


@dataclass(frozen=True)
class Extension:
    """A tokenizer with more entries than it was made from."""

    tokenizer: PreTrainedTokenizerBase
    added: tuple[str, ...]
    """What became an entry, in the order of the new ids."""
    present: tuple[str, ...]
    """What was one token already and was left as it is."""


def extend_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    tokens: Sequence[str],
    *,
    special: bool = False,
    pad_to_multiple_of: int = DEFAULT_MULTIPLE,
) -> Extension:
    """Returns a copy of `tokenizer` with `tokens` as entries of their own, and what became of each.

    New ids follow the old ones. Entries that no text makes round the size up; those of an earlier extension are
    taken first, as their ids were never used.

    Args:
        tokenizer: one with a tokenizer.json.
        tokens: words or phrases to be one token each.
        special: whether they are special tokens, which text that only spells them never becomes; the chat template
            then keeps a content from forging them.
        pad_to_multiple_of: 1 adds no fillers.

    Raises:
        ValueError: if `tokens` is empty, holds one twice, an empty one or a lone surrogate, if all of them are one
            token already, if a special one is present or cannot be one, or if there is no tokenizer.json.
    """
    added, present = _sort_out(tokenizer, tokens, special)
    if not added:
        raise ValueError(f"`tokens` must hold something new, but each is one token already: {', '.join(present)}.")
    content = backend_content(tokenizer)
    vocabulary = {token: index for token, index in content["model"]["vocab"].items() if not is_filler(token)}
    for token in content["added_tokens"]:
        vocabulary.setdefault(token["content"], token["id"])
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("`tokenizer` must number its entries from 0 without a gap to be extended, but it does not.")
    for token in added:
        content["added_tokens"].append(_added_token(token, len(vocabulary), special))
        vocabulary[token] = len(vocabulary)
    add_fillers(vocabulary, pad_to_multiple_of)
    content["model"]["vocab"] = vocabulary
    return Extension(_rebuild(tokenizer, content, added if special else ()), tuple(added), tuple(present))


def resize_model(model: PreTrainedModel, before: PreTrainedTokenizerBase, after: PreTrainedTokenizerBase) -> None:
    """Gives `model` a row for each new entry, in its embedding and its output projection, whether tied or not.

    A new entry starts as the mean of the tokens it was before, so the model reads it, and may write it, much as it
    did these; a filler starts as the mean of all old rows, which is never the likeliest. Old rows stay bit by bit.

    Args:
        model: any model with token embeddings, changed in place.
        before: the tokenizer it was trained with.
        after: the one that `extend_tokenizer` made of it.

    Raises:
        ValueError: if the model has fewer rows than `before` has entries.
    """
    rows = len(_tables(model)[0])
    if rows < len(before):
        raise ValueError(
            f"`model` must have a row for each of {len(before):,} entries of its tokenizer, got {rows:,}."
        )
    old = {token: index for token, index in before.get_vocab().items() if not is_filler(token)}
    pieces = {
        index: [] if is_filler(token) else _pieces(before, token)
        for token, index in after.get_vocab().items()
        if token not in old
    }
    model.resize_token_embeddings(max(len(after), rows), mean_resizing=False)
    with torch.no_grad():
        for table in _tables(model):
            known = table[: len(old)]
            typical = known.float().mean(0).to(table.dtype)
            # From a copy: no new row may be the mean of another new one.
            values = known.clone()
            for index, ids in pieces.items():
                table[index] = values[ids].float().mean(0).to(table.dtype) if ids else typical


def _sort_out(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], special: bool) -> tuple[list[str], list[str]]:
    if isinstance(tokens, str) or not tokens:
        raise ValueError(f"`tokens` must be a list of at least one token, got {tokens!r}.")
    if special:
        check_special_tokens(tokens, tokenizer.all_special_tokens)
        return list(tokens), []
    added: list[str] = []
    present: list[str] = []
    for token in tokens:
        if not token or token in added or token in present:
            raise ValueError(f"`tokens` must hold each token once and none empty, got {token!r} again or empty.")
        check_scalar_values(token, f"`tokens` entry {token!a}")
        if token in tokenizer.all_special_tokens:
            raise ValueError(f"`tokens` must be words, but {token!r} is a special token.")
        (present if len(_pieces(tokenizer, token)) == 1 else added).append(token)
    return added, present


def _pieces(tokenizer: PreTrainedTokenizerBase, token: str) -> list[int]:
    return tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def _added_token(token: str, index: int, special: bool) -> dict[str, Any]:
    exactly = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": token, **exactly, "special": special}


def _rebuild(
    tokenizer: PreTrainedTokenizerBase, content: dict[str, Any], special: Sequence[str]
) -> PreTrainedTokenizerBase:
    """Returns the tokenizer around another tokenizer.json; all else stays, but for further special tokens."""
    extended = copy.deepcopy(tokenizer)
    extended._tokenizer = Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    if special:
        extra = list_extra_special_tokens(tokenizer)
        extended.add_special_tokens(
            {"extra_special_tokens": [*tokenizer.extra_special_tokens, *special]}, replace_extra_special_tokens=True
        )
        for template in (chat_template, causal_lm_chat_template):
            if tokenizer.chat_template == template(extra):
                extended.chat_template = template([*extra, *special])
    return extended


def _tables(model: PreTrainedModel) -> list[torch.Tensor]:
    """Returns the tables that have a row for each entry, a tied one once."""
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    tables = {id(module.weight): module.weight for module in modules if module is not None}
    return list(tables.values())
