"""What a folder for the Hub may hold: files of a known name, and in them nothing that names a machine or a person."""

from __future__ import annotations

import getpass
import json
import platform
import re
import struct
import zlib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import get_token
from safetensors import safe_open

PUBLISHED_FILES = (
    *("README.md", "LICENSE", "LICENSE-CODE"),
    *("config.json", "generation_config.json", "*_kakehashi.py"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("recipe.yaml", "versions.json", "metrics.json", "evaluations.json", "*.png"),
)
"""Patterns of every file name that is published; anything else is refused."""

# Reading one of these can run code: pickles, and what torch, joblib and Keras pack pickles into.
_EXECUTABLE = (
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.h5", "*.keras", "*.npy", "*.npz"),
    *("*.so", "*.dll", "*.dylib", "*.exe"),
)
_PICKLE_MAGIC = re.compile(rb"\x80[\x02-\x05]")
# Not after what a URL, a tag, a fraction or a glob puts before a slash; one name alone, such as `/s`, is no path.
_ABSOLUTE_PATHS = (
    re.compile(r"(?<![\w.:/<>\\$*})-])~?/(?:[\w.@+-]+/)+[\w.@+-]+"),
    re.compile(r"(?<![\w.:/<>\\$*})-])/(?:home|Users|root|tmp|mnt|workspace)\b"),
    re.compile(r"\bfile:/{2}"),
    re.compile(r"\b[A-Za-z]:\\{1,2}\w[\w .@+-]*\\"),
)
# Keys of `config.json` that hold the names of classes.
_LABELS = ("id2label", "label2id")
_PNG_TEXT_CHUNKS = (b"tEXt", b"iTXt", b"zTXt", b"eXIf")
_SECRETS = {
    "a Hub token": re.compile(r"\bhf_[A-Za-z0-9]{20,}|\bapi_org_[A-Za-z]{20,}"),
    "a token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password": re.compile(r"\b[a-z][a-z0-9+]*://[^\s/:@]+:[^\s/@]+@"),
}


def refuse_executable_files(folder: Path) -> None:
    """Checks that no file right inside a folder could run code when somebody reads it.

    Args:
        folder: A folder of a run, or one to be published.

    Raises:
        ValueError: Naming the first such file.
    """
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        by_name = any(fnmatch(path.name.lower(), pattern) for pattern in _EXECUTABLE)
        if by_name or _starts_as_pickle(path):
            raise ValueError(
                f"{path} can run code when it is read, and nobody should have to trust it: remove it, or convert its "
                "weights to safetensors with `save_pretrained`"
            )


def _starts_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return _PICKLE_MAGIC.match(file.read(2)) is not None


def inspect_folder(folder: Path, repo_id: str) -> None:
    """Checks a folder before a stranger sees it.

    Args:
        folder: A folder as it is to be published.
        repo_id: Its name on the Hub, whose user may have the same name here.

    Raises:
        ValueError: Naming the first file that is not meant to be there, could run code, or holds an absolute path, a
            secret, or the name of this user or machine.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or not is_published(name):
            raise ValueError(f"{name} is not a file that belongs into a published folder")
    refuse_executable_files(folder)
    words = list(_telling_words())
    for path in sorted(folder.iterdir()):
        text = _readable_text(path)
        searched = _without_labels(text) if path.name == "config.json" else text
        leak = find_secret(text) or find_trace(searched, words, repo_id)
        if leak is not None:
            raise ValueError(f"{path.name} must tell nothing of the machine it comes from, but it holds {leak}")


def is_published(name: str) -> bool:
    """Returns whether a file of this name may be part of a published folder."""
    return "/" not in name and any(fnmatch(name, pattern) for pattern in PUBLISHED_FILES)


def find_secret(text: str) -> str | None:
    """Returns what kind of secret a text holds, None if it holds none; not the secret, which could end in a log."""
    for kind, pattern in _SECRETS.items():
        if pattern.search(text):
            return kind
    token = get_token()
    return "a Hub token" if token and token in text else None


def find_trace(text: str, words: list[str], repo_id: str = "") -> str | None:
    """Returns what in a text tells of the machine, None if nothing does.

    Args:
        text: Content of a file.
        words: Names that must not stand in it as whole words, such as that of the user.
        repo_id: Name on the Hub, which may.
    """
    path = next((found for pattern in _ABSOLUTE_PATHS if (found := pattern.search(text))), None)
    if path is not None:
        return f"the path {path.group()}"
    without_name = text.replace(repo_id, "") if repo_id else text
    name = next((word for word in words if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", without_name)), None)
    return None if name is None else f"the name {name}"


def _telling_words() -> Iterator[str]:
    """Yields the home folder, the user's name and the machine's, as far as they tell anything.

    A name that our own code or card template holds, such as `user`, is a common word and tells nothing.
    """
    ordinary = _ordinary_text()
    home = str(Path.home())
    if len(home) > 1:
        yield home
    try:
        names = [getpass.getuser()]
    except (OSError, KeyError):
        # A container may run under a number that has no name.
        names = []
    for name in (*names, platform.node()):
        if name and len(name) > 2 and not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", ordinary):
            yield name


def _ordinary_text() -> str:
    package = resources.files("kakehashi.modeling")
    code = [file for file in package.iterdir() if file.name.endswith("_kakehashi.py")]
    template = resources.files("kakehashi.model_cards").joinpath("template.md")
    return "\n".join(file.read_text(encoding="utf-8") for file in (*code, template))


def _readable_text(path: Path) -> str:
    """Returns the text of a file in which something could be told, without the vocabulary of a tokenizer."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as weights:
            return json.dumps({"metadata": weights.metadata(), "names": list(weights.keys())})
    content = path.read_bytes()
    if path.suffix == ".png":
        return _text_of_png(path.name, content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} must be UTF-8 text: {error}") from error
    return _without_vocabulary(text) if path.name == "tokenizer.json" else text


def _text_of_png(name: str, content: bytes) -> str:
    """Returns what a picture says of its making, as the PNG specification lays out its chunks."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{name} must be a PNG picture")
    texts, position = [], 8
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        chunk = content[position + 8 : position + 8 + length]
        if kind in _PNG_TEXT_CHUNKS:
            keyword, _, rest = chunk.partition(b"\0")
            chunk = keyword + b" " + (zlib.decompress(rest[1:]) if kind == b"zTXt" else rest)
            texts.append(chunk.decode("utf-8", errors="replace"))
        # After the data stand four bytes of checksum.
        position += 12 + length
    return "\n".join(texts)


def _without_labels(text: str) -> str:
    # `/r/askscience` is an answer of the model, and not a folder.
    content = json.loads(text)
    return json.dumps({key: value for key, value in content.items() if key not in _LABELS}, ensure_ascii=False)


def _without_vocabulary(text: str) -> str:
    # Merges such as "/" + "home" are pieces of the language, not of this machine.
    content: dict[str, Any] = json.loads(text)
    content["model"] = {key: value for key, value in content["model"].items() if key not in ("vocab", "merges")}
    return json.dumps(content, ensure_ascii=False)
