"""Read documents and rows from files, folders, globs or the Hub, always through `datasets`.

What a file holds decides how it is read, and its name says what it holds:

    name ends in        one row is              columns
    .txt                one line, a document    text
    .json .jsonl        one object              the keys of the object
    .csv                one quoted record       the header; every value is text
    .tsv                one line, no quoting    the header; every value is text
    .parquet            one record              the schema

Each but `.parquet` (which is compressed inside) may carry `.gz`, `.xz`, `.bz2` or `.zst` after that. Rows read
without streaming are kept by `datasets` in its own cache and read again only when a file has changed.
"""

import functools
import glob
import gzip
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pandas as pd
import pyarrow as pa
from datasets import Dataset, DownloadMode, Features, IterableDataset, Value, load_dataset
from datasets import logging as datasets_logging
from datasets.table import CastError

_BUILDER_OF_EXTENSION = {
    ".txt": "text",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_COMPRESSIONS = (".gz", ".xz", ".bz2", ".zst")
Data = TypeVar("Data")
_QUOTE_NONE = 3
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_SNIFFED_BYTES = 8192
_SCANNED_BYTES = 2**20
# The reader of tables ends a row here too.
_RETURN_WITHIN_LINE = re.compile(rb"\r[^\r\n]")


def load_rows(
    paths: str | Sequence[str], *, split: str = "train", streaming: bool = False
) -> Dataset | IterableDataset:
    """Returns the rows of the given files as one data set, in the order the files were named.

    Values stay as they are in the file: nothing is stripped but line ends, and in `.csv` and `.tsv` the words
    "null", "NA" and numbers such as "007" stay text. Lines of a `.txt` file that hold nothing but white space are
    left out.

    Args:
        paths: One or several of: a file, a folder (searched to the bottom, hidden entries left out), a glob such as
            `corpus/**/*.txt`, or a Hub data set id (`owner/name`, or `owner/name:configuration`). The network is
            used only for an id. All files must be of one kind.
        split: Which split of a Hub data set to take. Local files are always taken whole.
        streaming: Read while iterating, for corpora larger than the disk. Files that turn out to be damaged are
            then found only when they are reached, and a carriage return within a line of a `.tsv` ends the row there.

    Returns:
        The rows, of the columns in the table at the top of this file.

    Raises:
        ValueError: A path does not exist, a file is empty, damaged, binary or not UTF-8 (with the line number), of
            an unknown or of mixed kinds; a line is not JSON, or one of a `.tsv` holds a carriage return (with its
            number); files or rows have different columns; a Hub data set cannot be loaded.
    """
    dataset = _open_rows(paths, split, streaming)
    if dataset.info.builder_name == "text":
        dataset = _drop_blank_lines(dataset)
    if isinstance(dataset, Dataset) and not len(dataset):
        raise ValueError(f"{_describe(paths)} has no rows.")
    return dataset


def _open_rows(paths: str | Sequence[str], split: str, streaming: bool) -> Dataset | IterableDataset:
    names = _list_names(paths)
    if not names:
        raise ValueError("`paths` must name at least one file, folder, glob or Hub data set id, but it is empty.")
    hub_ids = [name for name in names if looks_like_hub_id(name)]
    if hub_ids:
        if len(names) > 1:
            raise ValueError(f"A Hub data set must be the only path, but got {names}.")
        return _load_from_hub(hub_ids[0], split, streaming)
    return _load_from_files([file for name in names for file in _find_files(name)], streaming)


def require_columns(dataset: Dataset | IterableDataset, columns: Sequence[str], paths: str | Sequence[str]) -> None:
    """Checks that every named column is present and can be used as it stands in the file.

    Args:
        dataset: Rows as `load_rows` gives them.
        columns: Names that must be there.
        paths: Where the rows came from, for the message.

    Raises:
        ValueError: A column is absent (the present ones are listed), or its JSON strings were all dates, which the
            reader has turned into points in time.
    """
    present = _column_names(dataset)
    missing = [column for column in columns if column not in present]
    if missing:
        raise ValueError(
            f"{_describe(paths)} has no column {_quote(missing)}; "
            f"the columns present are {_quote(present)}. Name one of these in the recipe or rename the column."
        )
    for column in columns:
        feature = (dataset.features or {}).get(column)
        if isinstance(feature, Value) and feature.dtype.startswith(("timestamp", "date")):
            raise ValueError(
                f"Column `{column}` of {_describe(paths)} holds only dates, and reading them as text would change "
                "them. Save the rows as .tsv, .csv or text columns of .parquet."
            )


def iterate_texts(paths: str | Sequence[str], text_column: str = "text") -> Iterator[str]:
    """Yields the documents of the given files one after another, streaming, without empty ones.

    Args:
        paths: As for `load_rows`.
        text_column: Column that holds the document.

    Yields:
        One document, exactly as in the file.

    Raises:
        ValueError: As for `load_rows` and `require_columns`, or a value is not text, or nothing is written at all.
    """
    dataset = _open_rows(paths, "train", streaming=True)
    with readable_errors(paths):
        require_columns(dataset, [text_column], paths)
        is_empty = True
        for batch in dataset.select_columns([text_column]).iter(batch_size=1000):
            for text in batch[text_column]:
                if text is not None and not isinstance(text, str):
                    raise ValueError(
                        f"Column `{text_column}` of {_describe(paths)} must hold text, "
                        f"but a value is {text!r} ({type(text).__name__})."
                    )
                if text and not text.isspace():
                    is_empty = False
                    yield text
        if is_empty:
            raise ValueError(f"Column `{text_column}` of {_describe(paths)} holds no text.")


def looks_like_hub_id(name: str) -> bool:
    """Returns whether a name is `owner/name` or `owner/name:configuration` on the Hub rather than one of a file."""
    # `corpus/train.txt` has the form of a Hub id too; a name that ends like a file was surely meant as one.
    return not os.path.exists(name) and bool(_HUB_ID.fullmatch(name)) and _find_builder(name) is None


def _load_from_hub(hub_id: str, split: str, streaming: bool) -> Dataset | IterableDataset:
    name, _, configuration = hub_id.partition(":")
    try:
        return load_dataset(name, configuration or None, split=split, streaming=streaming)
    except Exception as error:
        raise ValueError(
            f"`{hub_id}` is neither a local file or folder nor a Hub data set that can be loaded: {_first_line(error)}"
        ) from error


def _find_files(name: str) -> list[str]:
    """Returns the absolute paths of the files a path names, sorted."""
    path = Path(name)
    if path.is_dir():
        inside = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
        visible = [file for file in inside if not any(part.startswith(".") for part in file.parts)]
        files = sorted(str(path / file) for file in visible if _find_builder(file.name))
        if not files:
            raise ValueError(f"Folder `{name}` has no file that can be read; {_known_extensions()}")
    elif path.is_file():
        files = [name]
    else:
        files = sorted(file for file in glob.glob(name, recursive=True) if os.path.isfile(file))
        if not files:
            raise ValueError(
                f"`{name}` does not exist: it must be a file, a folder, a glob that matches files, or a Hub data set "
                "id (owner/name)."
            )
    return [os.path.abspath(file) for file in files]


def require_unread_file(name: str, path: Path, paths: Sequence[str]) -> None:
    """Checks that a file to be written is none of those to be read, which would be lost.

    Args:
        name: Name of the argument, for the message.
        path: The file to be written.
        paths: As for `load_rows`.

    Raises:
        ValueError: If it is one of them, by whatever name.
    """
    files: list[str] = []
    for source in paths:
        # A name that stands for no file is refused where it is read.
        with suppress(ValueError):
            files += _find_files(source)
    if path.exists() and any(path.samefile(file) for file in files):
        raise ValueError(f"`{name}` must be another file than those that are read, got {path}")


def _load_from_files(files: Sequence[str], streaming: bool) -> Dataset | IterableDataset:
    builder = _builder_of(files)
    for file in files:
        _require_content(file, builder)
        if builder == "tsv" and not streaming:
            _require_whole_lines(file)
    options: dict[str, Callable[[], dict[str, Any]]] = {
        # A byte order mark is no part of the first document.
        "text": lambda: {"encoding": "utf-8-sig"},
        # Otherwise rows with certain column names are taken for logs of coding agents and rebuilt.
        "json": lambda: {"parse_agent_traces": False},
        "csv": lambda: _table_options(files, {"sep": ","}),
        "tsv": lambda: _table_options(files, {"sep": "\t", "quoting": _QUOTE_NONE}),
        "parquet": dict,
    }
    with readable_errors(files):
        load: Callable[..., Dataset | IterableDataset] = functools.partial(
            load_dataset,
            "csv" if builder == "tsv" else builder,
            # `datasets` reads [ and * in a name as a pattern.
            data_files=[glob.escape(file) for file in files],
            split="train",
            streaming=streaming,
            **options[builder](),
        )
        dataset = from_cache_or_anew(load, functools.partial(load, download_mode=DownloadMode.FORCE_REDOWNLOAD))
        if builder == "json" and isinstance(dataset, Dataset):
            # The JSON reader lets bytes that are not UTF-8 through; they would only fail when a row is used.
            dataset.data.validate(full=True)
    return dataset


def from_cache_or_anew(read: Callable[[], Data], rebuild: Callable[[], Data]) -> Data:
    """Returns what is kept in the cache, or, where a file of the cache is damaged, what is computed again.

    Args:
        read: Reads the cache where it can.
        rebuild: Does the same work without reading it, and replaces what is there.
    """
    try:
        return read()
    except (pa.ArrowInvalid, OSError) as error:
        if not is_damaged_arrow(error):
            raise
        return rebuild()


def is_damaged_arrow(error: BaseException) -> bool:
    """Returns whether an error says that an Arrow file is cut off or damaged.

    Args:
        error: What was raised while a data set was read. Arrow tells a cut file as an OSError without a number.
    """
    return isinstance(error, pa.ArrowInvalid) or (type(error) is OSError and str(error).startswith("Expected to "))


def _find_builder(name: str) -> str | None:
    """Returns the kind of builder for a file name, or None where no builder reads it."""
    lowered = name.lower()
    compression = next((extension for extension in _COMPRESSIONS if lowered.endswith(extension)), "")
    extension = os.path.splitext(lowered.removesuffix(compression))[1]
    if extension == ".parquet" and compression:
        return None
    return _BUILDER_OF_EXTENSION.get(extension)


def _builder_of(files: Sequence[str]) -> str:
    example_of_builder: dict[str, str] = {}
    for file in files:
        builder = _find_builder(file)
        if builder is None:
            raise ValueError(f"`{file}` has an unknown extension; {_known_extensions()}")
        example_of_builder.setdefault(builder, file)
    if len(example_of_builder) > 1:
        raise ValueError(
            "All files must be of one kind, but these are mixed: "
            f"{' and '.join(f'`{file}` ({builder})' for builder, file in list(example_of_builder.items())[:2])}."
        )
    return next(iter(example_of_builder))


def _known_extensions() -> str:
    return (
        f"a name must end in {', '.join(_BUILDER_OF_EXTENSION)}, and all but .parquet may be followed by "
        f"{', '.join(_COMPRESSIONS)}."
    )


def _open_bytes(file: str) -> Any:
    """Opens a file for reading bytes, decompressed according to its extension."""
    return fsspec.open(file, "rb", compression="infer")


def _require_content(file: str, builder: str) -> None:
    """Refuses an empty file and one whose first bytes cannot be text."""
    with readable_errors([file]), _open_bytes(file) as stream:
        start = stream.read(_SNIFFED_BYTES)
    if not start.strip():
        raise ValueError(f"`{file}` is empty.")
    if builder != "parquet" and b"\0" in start:
        line = start[: start.index(b"\0")].count(b"\n") + 1
        raise ValueError(f"`{file}` must be UTF-8 text, but line {line} holds a zero byte: it is a binary file.")


def _require_whole_lines(file: str) -> None:
    """Refuses a table in which a carriage return would end a row within a line."""
    line, begun = 1, b""
    with readable_errors([file]), _open_bytes(file) as stream:
        for read in iter(functools.partial(stream.read, _SCANNED_BYTES), b""):
            block = begun + read
            if found := _RETURN_WITHIN_LINE.search(block):
                line += block[: found.start()].count(b"\n")
                raise ValueError(
                    f"`{file}` must have one row on each line, but line {line} holds a carriage return: remove it, "
                    "or save the rows as .jsonl."
                )
            line += block.count(b"\n")
            begun = b"\r" if block.endswith(b"\r") else b""


def _table_options(files: Sequence[str], dialect: dict[str, Any]) -> dict[str, Any]:
    """Returns options that keep every value of a csv or tsv file as text."""
    columns = _read_header(files[0], dialect)
    for file in files[1:]:
        if (others := _read_header(file, dialect)) != columns:
            raise ValueError(
                f"Files read together must have the same columns, but `{files[0]}` has {_quote(columns)} "
                f"and `{file}` has {_quote(others)}."
            )
    features = Features({column: Value("string") for column in columns})
    return {**dialect, "features": features, "keep_default_na": False, "na_filter": False}


def _read_header(file: str, dialect: dict[str, Any]) -> list[str]:
    with readable_errors([file]):
        first = pd.read_csv(file, nrows=1, dtype=str, keep_default_na=False, encoding="utf-8", **dialect)
    if not isinstance(first.index, pd.RangeIndex):
        # pandas would shift the columns and make the first field a row name.
        raise ValueError(f"`{file}` line 2 has more fields than the {len(first.columns)} of the header.")
    return [str(column) for column in first.columns]


def _drop_blank_lines(dataset: Dataset | IterableDataset) -> Dataset | IterableDataset:
    if isinstance(dataset, IterableDataset):
        return dataset.filter(_is_written, input_columns="text", batched=True)
    kept = dataset.filter(_is_written, input_columns="text", batched=True, desc="Leaving out blank lines")
    # A filtered data set reads through a table of row numbers, which is slower: keep the plain one if it is whole.
    return kept if len(kept) < len(dataset) else dataset


def _is_written(texts: list[str]) -> list[bool]:
    return [bool(text) and not text.isspace() for text in texts]


def _column_names(dataset: Dataset | IterableDataset) -> list[str]:
    if dataset.column_names is not None:
        return list(dataset.column_names)
    return list(next(iter(dataset), {}))


@contextmanager
def readable_errors(paths: str | Sequence[str]) -> Iterator[None]:
    """Turns whatever the readers below raise into one ValueError that names the file and the line."""
    verbosity = datasets_logging.get_verbosity()
    # The builders log the failure before they raise it; the user is to read it once.
    datasets_logging.set_verbosity(datasets_logging.CRITICAL)
    try:
        yield
    except Exception as error:
        cause = _root_cause(error)
        if isinstance(cause, OSError) and cause.errno is not None:
            # No fault of the file: a full disk, missing rights, too many open files.
            raise cause from None
        if type(error) is ValueError and "corresponds to no data" in str(error):
            raise ValueError(f"{_describe(paths)} has no rows.") from error
        if type(error) is ValueError and error.__cause__ is None:
            raise
        raise ValueError(describe_damage(paths, cause)) from error
    finally:
        datasets_logging.set_verbosity(verbosity)


def is_unreadable(error: BaseException) -> bool:
    """Returns whether an error says that a file of data is cut off, damaged, not UTF-8 or changes its columns.

    Args:
        error: What was raised while a recipe with a stream ran. A model that is not found is a plain OSError too.
    """
    kinds = (EOFError, UnicodeDecodeError, pd.errors.ParserError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)
    is_bz2 = type(error) is OSError and str(error) == "Invalid data stream"
    is_zstd = type(error).__name__ == "ZstdError"
    return isinstance(error, (*kinds, CastError)) or is_bz2 or is_zstd or is_damaged_arrow(error)


def describe_damage(paths: str | Sequence[str], error: BaseException) -> str:
    """Returns a sentence that names the damaged file and the line, if any is found.

    Args:
        paths: As for `load_rows`. Local files are read again up to the damage.
        error: What was raised while they were read.
    """
    if isinstance(error, CastError):
        return (
            f"Rows read together must have the same columns, but in {_describe(paths)} the first have "
            f"{_quote(error.requested_column_names)} and later ones {_quote(error.table_column_names)}."
        )
    return _find_damage(paths) or f"{_describe(paths)} cannot be read: {_first_line(error)}"


def _find_damage(paths: str | Sequence[str]) -> str | None:
    """Reads the files again line by line and returns a sentence about the first damaged place, or None."""
    local_names = [name for name in _list_names(paths) if not looks_like_hub_id(name)]
    for file in (file for name in local_names for file in _find_files(name)):
        builder = _find_builder(file)
        found = None if builder == "parquet" else _find_bad_bytes(file)
        if builder == "json" and not found:
            found = _find_bad_json(file)
        if found:
            return found
    return None


def _find_bad_bytes(file: str) -> str | None:
    try:
        with _open_bytes(file) as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    return f"`{file}` must be UTF-8 text, but line {number} is not: {error.reason} ({line[:20]!r})."
    except Exception as error:  # each decompressor raises its own kind
        return f"`{file}` cannot be decompressed: {_first_line(error)}"
    return None


def _find_bad_json(file: str) -> str | None:
    with fsspec.open(file, "rt", compression="infer", encoding="utf-8-sig") as stream:
        if stream.read(1) == "[":
            stream.seek(0)
            return _explain_json(file, functools.partial(json.load, stream), first_line=1)
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            if line.strip() and (found := _explain_json(file, functools.partial(json.loads, line), number)):
                return found
    return None


def _explain_json(file: str, parse: Callable[[], Any], first_line: int) -> str | None:
    try:
        value = parse()
    except json.JSONDecodeError as error:
        return f"`{file}` line {first_line + error.lineno - 1} is not valid JSON: {error.msg}."
    if not isinstance(value, (dict, list)):
        return f"`{file}` line {first_line} must be a JSON object, but it is {value!r}."
    return None


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _list_names(paths: str | Sequence[str]) -> list[str]:
    return [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def _describe(paths: str | Sequence[str]) -> str:
    names = _list_names(paths)
    return f"`{names[0]}`" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _quote(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
