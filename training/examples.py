"""Turn rows into tokenized examples, once: `datasets` keeps the result and finds it again.

    function                 a row holds                     an example holds
    tokenize_documents       a text                          input_ids (a piece, without special tokens)
    tokenize_instructions    an instruction, an answer       input_ids (source), labels (target)
    tokenize_classification  a text, a label                 input_ids, labels

The result is found again while rows, tokenizer, settings and this code are the same. Nothing is cut or left out
silently: each function logs one warning with the numbers. A stream of documents or instructions (`streaming=True`)
stays one, and its warnings come while it is read, at the 1st, 10th, 100th … time.
"""

import functools
import inspect
import json
import logging
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from datasets import Dataset, Features, IterableDataset, List, Value
from datasets.fingerprint import Hasher
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from kakehashi.tokenization.chat import message_text
from kakehashi.tokenization.special_tokens import role_id
from kakehashi.training.documents import from_cache_or_anew
from kakehashi.training.encoding import encode_and_cut
from kakehashi.training.instruction_rows import (
    Conversation,
    InstructionColumns,
    as_text,
    is_empty,
    read_conversations,
    read_instruction_row,
)
from kakehashi.training.label_names import (
    PROBLEM_TYPES,
    label_encoder,
)
from kakehashi.training.objectives import IGNORED_LABEL

__all__ = [
    "InstructionColumns",
    "read_instruction_row",
    "tokenize_classification",
    "tokenize_documents",
    "tokenize_instructions",
]

Columns: TypeAlias = dict[str, list[Any]]
Rows = TypeVar("Rows", bound=Dataset | IterableDataset)

LENGTH_COLUMNS = ["source_length", "target_length"]

logger = logging.getLogger(__name__)

_IDS = List(Value("int32"))
_LENGTH = Value("int32")
# What became of an example; a column of its own holds it until it is counted.
_WHOLE, _SOURCE_CUT, _TARGET_CUT, _EMPTY = 0, 1, 2, 4


def tokenize_documents(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    *,
    text_column: str = "text",
    max_length: int,
    num_proc: int | None = None,
) -> Rows:
    """Returns the documents as ids, cut into pieces that are short enough.

    A document that is too long becomes as few pieces as possible, of lengths as equal as possible, so that no scrap
    is left over at its end. With `max_length` 4:

        document  the small dog did not run because it was tired
        pieces    the small dog did | not run because | it was tired

    Args:
        rows: From `load_rows`.
        tokenizer: Encodes the text; a special token spelled in it stays text.
        text_column: Column that holds the documents.
        max_length: Most tokens of a piece.
        num_proc: Processes that tokenize; None means this one.

    Returns:
        Examples with `input_ids`, shape (length,): 1 to `max_length` ids, none of them special.

    Raises:
        ValueError: `max_length` is less than 1, or a value is not text.
    """
    _require_length("max_length", max_length, 1)

    def encode(batch: Columns) -> Columns:
        texts = [as_text({text_column: text}, text_column) for text in batch[text_column]]
        pieces: Columns = {"input_ids": [], "outcome": []}
        for ids in _encode_texts(tokenizer, ["" if text.isspace() else text for text in texts]):
            count = max(1, math.ceil(len(ids) / max_length))
            pieces["input_ids"] += [piece.tolist() for piece in np.array_split(np.array(ids, dtype=np.int32), count)]
            # Only the first piece is marked, so that the marks count documents.
            first = _EMPTY if not ids else _SOURCE_CUT if count > 1 else _WHOLE
            pieces["outcome"] += [first, *[_WHOLE] * (count - 1)]
        return pieces

    features = {"input_ids": _IDS}
    notices = {
        _SOURCE_CUT: f"documents are longer than {max_length} tokens and were split",
        _EMPTY: "documents hold no text and were left out",
    }
    if isinstance(rows, IterableDataset):
        return _map_stream(rows, [text_column], encode, features, notices)
    examples, outcomes = _map(rows.select_columns([text_column]), encode, tokenizer, max_length, features, num_proc)
    _warn(outcomes, notices, len(rows))
    return examples


def tokenize_instructions(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    *,
    columns: InstructionColumns | None = None,
    max_source_length: int,
    max_target_length: int,
    is_encoder_decoder: bool = True,
    num_proc: int | None = None,
    keep_lengths: bool = False,
) -> Rows:
    """Returns instructions and their answers as ids; only the answer is to be predicted.

    For an encoder-decoder, source and target are two sequences (`Seq2SeqCollator` pads them); for a decoder-only
    model the one follows the other, and the source counts for nothing (`CausalLMCollator`). A dot is -100:

        encoder-decoder  input_ids  <|user|> Say hi . </s>
                         labels     Hi ! </s>
        decoder only     input_ids  <s> <|user|> Say hi . <|assistant|> Hi ! </s>
                         labels      .     .      .  .  .       .       Hi ! </s>

    A source that is too long loses its oldest turns, system turns excepted, and then its end. A target that is too
    long loses its end and gets no `</s>`: the answer does not stop there. Rows without instruction or answer are
    left out. All three are counted.

    Args:
        rows: In any form of `InstructionColumns`.
        tokenizer: Encodes the text; a special token spelled in it stays text.
        columns: Where to look; None means the columns of `INSTRUCTION_FORMS`.
        max_source_length: Most tokens before the answer, special tokens included; at least 4.
        max_target_length: Most tokens of the answer, special tokens included.
        is_encoder_decoder: The shape of the model.
        num_proc: Processes that tokenize; None means this one.
        keep_lengths: Whether `source_length` and `target_length` say how long each was before it was cut.

    Returns:
        Examples with `input_ids`, shape (source_length,), and `labels`, shape (target_length,); for a decoder-only
        model both of shape (source_length + target_length,).

    Raises:
        ValueError: A column is absent, a value is not text, a role is unknown, or a length is too small.
    """
    _require_length("max_source_length", max_source_length, 4)
    _require_length("max_target_length", max_target_length, 1)
    columns = columns or InstructionColumns()
    # A stream of JSON lines knows its columns from its first row on.
    used = columns.find(rows.column_names or list(next(iter(rows), {})))
    number_of = _find_numbers(rows)

    def encode(batch: Columns, indices: list[int]) -> Columns:
        conversations: list[Conversation] = []
        for index, *values in zip(indices, *(batch[name] for name in used), strict=True):
            conversations += _read_row(dict(zip(used, values, strict=True)), columns, index, number_of(index))
        contents = [[*map(message_text, messages), target] for messages, target in conversations]
        # One call for the whole batch: each call of the tokenizer has a price of its own.
        ids = iter(_encode_texts(tokenizer, list(chain.from_iterable(contents))))
        examples: Columns = {name: [] for name in ("input_ids", "labels", "outcome", *LENGTH_COLUMNS)}
        for conversation, texts in zip(conversations, contents, strict=True):
            *turns, answer = islice(ids, len(texts))
            roles = [message.get("role", "") for message in conversation[0]]
            source, length = _assemble_source(tokenizer, roles, turns, max_source_length, is_encoder_decoder)
            target = [*answer, tokenizer.eos_token_id]
            outcome = _SOURCE_CUT * (length > max_source_length) + _TARGET_CUT * (len(target) > max_target_length)
            examples["source_length"].append(length)
            examples["target_length"].append(len(target))
            target = target[:max_target_length]
            examples["input_ids"].append(source if is_encoder_decoder else source + target)
            examples["labels"].append(target if is_encoder_decoder else [IGNORED_LABEL] * len(source) + target)
            examples["outcome"].append(_EMPTY if is_empty(conversation) else outcome)
        return examples

    settings = (columns, max_source_length, max_target_length, is_encoder_decoder)
    features = {"input_ids": _IDS, "labels": _IDS, **dict.fromkeys(LENGTH_COLUMNS, _LENGTH)}
    notices = _instruction_notices(max_source_length, max_target_length)
    if isinstance(rows, IterableDataset):
        return _map_stream(rows, used, encode, features, notices).remove_columns(LENGTH_COLUMNS)
    examples, outcomes = _map(rows.select_columns(used), encode, tokenizer, settings, features, num_proc)
    _warn(outcomes, notices, len(outcomes))
    return examples if keep_lengths else examples.remove_columns(LENGTH_COLUMNS)


def tokenize_classification(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    text_column: str = "text",
    label_column: str = "label",
    label_names: Sequence[str] = (),
    problem_type: str = "single_label_classification",
    max_length: int,
    num_proc: int | None = None,
    keep_lengths: bool = False,
) -> Dataset:
    """Returns texts as ids with `</s>`, each with its label, for `ClassificationCollator`.

        text  a mutual or reciprocal action   label  act   label_names  act, animal, artifact

        single_label_classification  input_ids  a mutual or reciprocal action </s>   labels  0
        multi_label_classification   the same, with label [act, artifact]            labels  [1., 0., 1.]
        regression                   the same, with label 0.25                       labels  0.25

    A text that is too long loses its end before `</s>`; how many did is logged.

    Args:
        rows: Rows of text and label.
        tokenizer: Encodes the text and adds its own special tokens; one spelled in the text stays text.
        text_column: Column of the text.
        label_column: Column of the label.
        label_names: Name of each label id; from `collect_label_names` of the training rows. Not for regression.
        problem_type: One of `PROBLEM_TYPES`, as Transformers understands it.
        max_length: Most tokens of a text, special tokens included.
        num_proc: Processes that tokenize; None means this one.
        keep_lengths: Whether each example also says, as `source_length`, how long it was before it was cut; for
            `take_lengths`.

    Returns:
        Examples with `input_ids`, shape (length,), and `labels`: an id, a float, or floats of shape (num_labels,).

    Raises:
        ValueError: A label is not among `label_names` or not a number, a text is missing, or an argument is out of
            bounds.
    """
    _require_length("max_length", max_length, 2)
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"`problem_type` must be one of {', '.join(PROBLEM_TYPES)}, but it is {problem_type!r}.")
    encode_label, label_feature = label_encoder(rows, label_column, label_names, problem_type)
    number_of = _find_numbers(rows)

    def encode(batch: Columns, indices: list[int]) -> Columns:
        texts, labels = [], []
        for number, text, label in zip(map(number_of, indices), batch[text_column], batch[label_column], strict=True):
            if text is None:
                raise ValueError(f"Every row must have a text in `{text_column}`, but row {number + 1} has none.")
            texts.append(as_text({text_column: text}, text_column))
            labels.append(encode_label(label, number))
        ids, lengths = encode_and_cut(tokenizer, texts, max_length)
        outcomes = [_SOURCE_CUT * (length > max_length) for length in lengths]
        return {"input_ids": ids, "labels": labels, "outcome": outcomes, "source_length": lengths}

    settings = (text_column, label_column, tuple(label_names), problem_type, max_length)
    features = {"input_ids": _IDS, "labels": label_feature, "source_length": _LENGTH}
    used = rows.select_columns([text_column, label_column])
    examples, outcomes = _map(used, encode, tokenizer, settings, features, num_proc)
    examples = examples if keep_lengths else examples.remove_columns("source_length")
    _warn(outcomes, {_SOURCE_CUT: f"texts are longer than {max_length} tokens and were cut"}, len(rows))
    return examples


def _instruction_notices(max_source_length: int, max_target_length: int) -> dict[int, str]:
    """Returns what is said of instructions that were cut or left out."""
    return {
        _SOURCE_CUT: f"sources are longer than {max_source_length} tokens and were cut",
        _TARGET_CUT: f"targets are longer than {max_target_length} tokens and were cut",
        _EMPTY: "examples have no instruction or no answer and were left out",
    }


def _require_length(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, but it is {value}.")


def _encode_texts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Returns the ids of each text without special tokens, and without a warning about long ones."""
    if not texts:
        return []
    return tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]


def _find_numbers(rows: Dataset | IterableDataset) -> Callable[[int], int]:
    """Returns a function from the place of a row to its number in the files: splits and folds shuffle."""
    shuffled = getattr(rows, "_indices", None)
    numbers = None if shuffled is None else shuffled.column(0).to_numpy()
    return lambda index: index if numbers is None else int(numbers[index])


def _read_row(row: dict[str, Any], columns: InstructionColumns, index: int, number: int) -> list[Conversation]:
    try:
        return list(read_conversations(row, columns, index))
    except ValueError as error:
        raise ValueError(f"Row {number + 1}: {error}") from error


def _assemble_source(
    tokenizer: PreTrainedTokenizerBase,
    roles: Sequence[str],
    contents: Sequence[list[int]],
    max_length: int,
    is_encoder_decoder: bool,
) -> tuple[list[int], int]:
    """Returns the ids before an answer, in the order of the chat templates, and their number before some had to go."""
    eos = tokenizer.eos_token_id
    head = [] if is_encoder_decoder else [tokenizer.bos_token_id]
    tail = [eos] if is_encoder_decoder else [role_id(tokenizer, "assistant")]
    turns = [[role_id(tokenizer, role), *ids] for role, ids in zip(roles, contents, strict=True)]
    if not is_encoder_decoder:
        turns = [[*turn, eos] if role == "assistant" else turn for role, turn in zip(roles, turns, strict=True)]
    room = max_length - len(head) - len(tail)
    excess = sum(map(len, turns)) - room
    oldest_first = [place for place, role in enumerate(roles) if role != "system"]
    dropped: set[int] = set()
    for place in oldest_first[:-1]:
        if sum(len(turns[each]) for each in dropped) < excess:
            dropped.add(place)
    kept = [turn for place, turn in enumerate(turns) if place not in dropped]
    return [*head, *islice(chain.from_iterable(kept), room), *tail], max_length + excess


def _map(
    rows: Dataset,
    function: Callable[..., Columns],
    tokenizer: PreTrainedTokenizerBase,
    settings: Any,
    features: dict[str, Any],
    num_proc: int | None,
) -> tuple[Dataset, NDArray[np.int8]]:
    """Returns the examples that are not empty, and what became of every one."""
    takes_indices = function.__code__.co_argcount == 2
    encode = functools.partial(
        rows.map,
        function,
        batched=True,
        with_indices=takes_indices,
        remove_columns=rows.column_names,
        features=Features({**features, "outcome": Value("int8")}),
        num_proc=num_proc,
        new_fingerprint=_fingerprint(rows, function, tokenizer, settings),
        desc="Tokenizing",
    )
    examples = from_cache_or_anew(encode, functools.partial(encode, load_from_cache_file=False))
    outcomes = np.asarray(examples.with_format("numpy")["outcome"][:], dtype=np.int8)
    if (outcomes == _EMPTY).any():
        examples = examples.select(np.flatnonzero(outcomes != _EMPTY))
    return examples.remove_columns("outcome"), outcomes


def _fingerprint(
    rows: Dataset, function: Callable[..., Columns], tokenizer: PreTrainedTokenizerBase, settings: Any
) -> str:
    """Returns a name for the result that is the same exactly when the result is.

    `datasets` would pickle the tokenizer, whose truncation settings change with use, and so never find the result.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = json.loads(backend.to_str()) if backend is not None else tokenizer
    if backend is not None:
        vocabulary.update(truncation=None, padding=None)
    marks = (tokenizer.special_tokens_map, tokenizer.truncation_side)
    code = read_code(function, InstructionColumns, encode_and_cut, label_encoder, message_text, role_id)
    parts = (rows._fingerprint, function.__qualname__, settings, vocabulary, marks, code)
    return Hasher.hash((*parts, version("tokenizers")))


def read_code(*definitions: Any) -> list[bytes]:
    """Returns the source files of functions, classes or modules, for the name of a result that depends on them."""
    return [Path(inspect.getfile(each)).read_bytes() for each in definitions]


def _map_stream(
    rows: IterableDataset,
    columns: Sequence[str],
    function: Callable[..., Columns],
    features: dict[str, Any],
    notices: dict[int, str],
) -> IterableDataset:
    """Returns the examples that are not empty, made while they are read, with a warning now and then."""
    seen = dict.fromkeys(notices, 0)
    rows_seen = 0

    def encode(batch: Columns, indices: list[int]) -> Columns:
        nonlocal rows_seen
        examples = function(batch, indices) if function.__code__.co_argcount == 2 else function(batch)
        outcomes = np.asarray(examples["outcome"], dtype=np.int8)
        # A look at the beginning and each further pass give the same rows again, which are counted once.
        if indices[-1] >= rows_seen:
            _warn_so_far(outcomes, notices, seen)
            rows_seen = indices[-1] + 1
        kept = np.flatnonzero(outcomes != _EMPTY)
        return {name: [column[place] for place in kept] for name, column in examples.items()}

    examples = rows.select_columns(list(columns)).map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=list(columns),
        features=Features({**features, "outcome": Value("int8")}),
    )
    return examples.remove_columns("outcome")


def _warn_so_far(outcomes: NDArray[np.int8], notices: dict[int, str], seen: dict[int, int]) -> None:
    """Adds to the counts in `seen`, and tells one at the 1st, 10th, 100th … time."""
    for outcome, what in notices.items():
        count = seen[outcome] + int(np.count_nonzero(outcomes & outcome))
        if count and (not seen[outcome] or len(str(count)) > len(str(seen[outcome]))):
            logger.warning("So far %d %s.", count, what)
        seen[outcome] = count


def _warn(outcomes: NDArray[np.int8], notices: dict[int, str], total: int) -> None:
    for outcome, what in notices.items():
        count = int(np.count_nonzero(outcomes & outcome))
        if count:
            logger.warning("%d of %d %s.", count, total, what)
