"""Texts as vectors: the mean of the encoder's context vectors, and the angles between them.

```
text        "I love cats."  →  6 ids, the end mark included
encoder     6 context vectors, each the whole text as seen from one token
embedding   their mean: one vector of `hidden_size` numbers
similarity  cosine of the angle between two such vectors: 1 same direction, 0 unrelated, -1 opposite
```

Tokens that only fill a batch are left out of the mean: a text has one vector, whatever it is embedded with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from sklearn.metrics.pairwise import cosine_similarity
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.training.aside import replace_file, require_writable_file
from kakehashi.training.encoding import encode_to_fit
from kakehashi.training.inference import (
    DEFAULT_BATCH_SIZE,
    MemoryAdvice,
    batches_by_length,
    require_text,
    to_model,
)

Vectors: TypeAlias = npt.NDArray[np.float32]
"""One row for each text, shape (texts, hidden_size)."""

VECTOR_SUFFIXES: Final = (".npy", ".safetensors", ".jsonl")
VECTORS_NAME: Final = "embeddings"
"""Name of the one tensor in a `.safetensors` file."""


@torch.inference_mode()
def embed_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_batch: Callable[[int], None] | None = None,
) -> Vectors:
    """Returns one vector for each text, in order: the mean of its context vectors, shape (texts, hidden_size).

    Args:
        model: From `load_for_embedding`, or any encoder that returns `last_hidden_state`.
        tokenizer: Its tokenizer. Special tokens typed into a text stay plain text.
        texts: The texts.
        batch_size: Texts that run through the model together.
        on_batch: Called after each batch with its number of texts, for a progress bar.

    Raises:
        ValueError: If a text is empty or a batch does not fit into memory.
    """
    require_text(texts)
    sources = encode_to_fit(model, tokenizer, texts)
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    for indices in batches_by_length([len(source) for source in sources], batch_size):
        # To the right, whatever side the tokenizer prefers: an encoder reads from its first position on.
        padded = tokenizer.pad(
            {"input_ids": [sources[index] for index in indices]}, padding_side="right", return_tensors="pt"
        )
        batch = to_model(padded, model)
        with MemoryAdvice(len(indices)):
            states = model(**batch).last_hidden_state.float()
        is_token = batch["attention_mask"].unsqueeze(-1)
        vectors[indices] = ((states * is_token).sum(dim=1) / is_token.sum(dim=1)).cpu().numpy()
        if on_batch is not None:
            on_batch(len(indices))
    return vectors


def cosine_similarities(vectors: Vectors) -> Vectors:
    """Returns the cosine of the angle between every two vectors, shape (texts, texts), from -1 to 1.

    Args:
        vectors: One row for each text. The cosine with a row of zeros is 0.
    """
    return np.clip(cosine_similarity(vectors), -1.0, 1.0)


def nearest_texts(similarities: Vectors) -> list[int]:
    """Returns for each text the index of the other one whose vector is nearest in angle.

    Args:
        similarities: From `cosine_similarities`, of two texts or more.
    """
    others = np.array(similarities)
    np.fill_diagonal(others, -np.inf)
    return others.argmax(axis=1).tolist()


def check_vectors_path(path: Path) -> None:
    """Checks that vectors can be written to a file of that name, before anyone waits for them.

    Raises:
        ValueError: If the suffix names no format, or as `require_writable_file`.
    """
    if path.suffix not in VECTOR_SUFFIXES:
        raise ValueError(f"`output` must end in {', '.join(VECTOR_SUFFIXES)}, got {path}")
    require_writable_file("output", path)


def save_vectors(path: Path, texts: Sequence[str], vectors: Vectors) -> None:
    """Writes vectors in the format that the suffix names; the file is complete or not there.

    Args:
        path: `.npy`: the array. `.safetensors`: the array as `VECTORS_NAME`. `.jsonl`: a line for each text with
            `text` and `embedding`.
        texts: The texts, for `.jsonl`.
        vectors: Their vectors.

    Raises:
        ValueError: As `check_vectors_path`.
    """
    check_vectors_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(aside: Path) -> None:
        if path.suffix == ".npy":
            np.save(aside, vectors)
        elif path.suffix == ".safetensors":
            safetensors.numpy.save_file({VECTORS_NAME: np.ascontiguousarray(vectors)}, aside)
        else:
            with aside.open("wb") as file:
                for text, vector in zip(texts, vectors, strict=True):
                    row = {"text": text, "embedding": vector.tolist()}
                    file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    replace_file(path, write)
