"""The entries of a byte-level vocabulary: what each is for, which bytes it stands for, how often a text uses it.

```
special   <pad>  <s>  <|user|>  <extra_id_0>     never made from text that only spells them
byte      00 … ff                                every string is made of them
merge     " cat"  "です"                          learned by joining two others
added     "架け橋"                                 found whole in a text before it is split
filler    <filler 0>                             no text makes it; rounds the size up
```
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from transformers import PreTrainedTokenizerBase

from kakehashi.tokenization.pretokenization import SENTENCE_TERMINATORS, token_bytes

# A space is no character of a byte-level vocabulary (it is `Ġ` there), so no text can make such an entry.
_FILLER_PREFIX: Final = "<filler "
_BATCH_SIZE = 1000


@dataclass(frozen=True)
class Entry:
    """One entry of a vocabulary."""

    id: int
    content: bytes
    """The bytes it stands for; of a special token, its name."""
    kind: str
    """`special`, `byte`, `merge`, `added` or `filler`."""

    @property
    def text(self) -> str | None:
        """The content as text; None if it ends or starts within a character."""
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError:
            return None


def content_of(tokenizer: PreTrainedTokenizerBase, token_id: int) -> bytes:
    """Returns the bytes that an entry of a byte-level vocabulary stands for; of an added token, its text.

    Raises:
        ValueError: if the vocabulary is not byte-level.
    """
    token = str(tokenizer.convert_ids_to_tokens(token_id))
    return token.encode() if token_id in tokenizer.added_tokens_decoder or is_filler(token) else token_bytes(token)


def list_entries(tokenizer: PreTrainedTokenizerBase) -> list[Entry]:
    """Returns every entry of a byte-level vocabulary, in the order of the ids.

    Raises:
        ValueError: if the vocabulary is not byte-level.
    """
    added = tokenizer.added_tokens_decoder
    entries = []
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if index in added:
            entries.append(Entry(index, token.encode(), "special" if added[index].special else "added"))
        elif is_filler(token):
            entries.append(Entry(index, token.encode(), "filler"))
        else:
            content = token_bytes(token)
            entries.append(Entry(index, content, "byte" if len(content) == 1 else "merge"))
    return entries


def filler_token(index: int) -> str:
    """Returns the name of filler number `index`, counted from 0."""
    return f"{_FILLER_PREFIX}{index}>"


def is_filler(token: str) -> bool:
    """Returns whether an entry only rounds the size of its vocabulary up."""
    return token.startswith(_FILLER_PREFIX)


def add_fillers(vocabulary: dict[str, int], multiple: int) -> None:
    """Adds entries that no text can make until the size is a multiple of `multiple`.

    Args:
        vocabulary: token to id, ids counted from 0 without a gap; changed in place.
        multiple: 1 or more.

    Raises:
        ValueError: if `multiple` is below 1.
    """
    if multiple < 1:
        raise ValueError(f"`pad_to_multiple_of` must be 1 or more, got {multiple}.")
    for number in range(-len(vocabulary) % multiple):
        vocabulary[filler_token(number)] = len(vocabulary)


def count_uses(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Counter[int]:
    """Returns how often each id occurs in `texts`, special tokens spelled in them read as text.

    Args:
        tokenizer: any tokenizer of Transformers.
        texts: read once, in batches.
    """
    uses: Counter[int] = Counter()
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH_SIZE)):
        encoded = tokenizer(batch, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False)
        for ids in encoded["input_ids"]:
            uses.update(ids)
    return uses


def unused_merges(entries: Iterable[Entry], uses: Counter[int]) -> list[Entry]:
    """Returns the learned entries that occur nowhere, being only steps on the way to longer ones.

    Special tokens, single bytes, added tokens and fillers are not counted: they are there for what a text may hold.
    """
    return [entry for entry in entries if entry.kind == "merge" and not uses[entry.id]]


def crosses_sentence_end(text: str) -> bool:
    """Returns whether letters or digits follow what ends a sentence, as in `.A` or `。私`."""
    _, *following = _split_at_terminators(text)
    return any(any(character.isalnum() for character in part) for part in following)


def mixes_digits_and_letters(text: str) -> bool:
    """Returns whether decimal digits and letters stand together, as in `3D` or `5月`."""
    return any(character.isdecimal() for character in text) and any(character.isalpha() for character in text)


def _split_at_terminators(text: str) -> list[str]:
    parts = [""]
    for character in text:
        if character in SENTENCE_TERMINATORS:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def backend_content(tokenizer: PreTrainedTokenizerBase) -> dict:
    """Returns what the `tokenizer.json` of a tokenizer holds.

    Raises:
        ValueError: if the tokenizer has no such file, being written in Python.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"`tokenizer` must have a tokenizer.json, but {type(tokenizer).__name__} has none.")
    return json.loads(backend.to_str())
