"""The folder of an exported model: which engine it is for, what lies beside the graphs, and writing it at once.

Besides what the engine reads, a folder holds `config.json`, `generation_config.json` and the tokenizer, so that
`AutoConfig`, `AutoTokenizer` and `GenerationConfig` read it as they read the model folder it came from.
"""

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save

from kakehashi.tokenization import save_tokenizer

Engine: TypeAlias = Literal["onnx", "ctranslate2"]
Quantization: TypeAlias = Literal["int8", "float16"]

ENGINES: tuple[Engine, ...] = get_args(Engine)
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)

# What Transformers' exporters write beside the graphs of an export.
_MANIFEST = "export.json"
_CTRANSLATE2_WEIGHTS = "model.bin"


def engine_of(model: str | Path) -> Engine | None:
    """Returns the engine that an exported folder is for; `None` for a model folder, a file or a Hub id.

    Raises:
        ValueError: If the folder is an export of Transformers for an engine that is not run here.
    """
    folder = Path(model)
    if (folder / _MANIFEST).is_file():
        exported_for = _read_json(folder / _MANIFEST).get("export_format")
        if exported_for != "onnx":
            raise ValueError(f"`model` must be exported for {' or '.join(ENGINES)}, but {model} is for {exported_for}")
        return "onnx"
    has_vocabulary = folder.is_dir() and any(folder.glob("*vocabulary.json"))
    return "ctranslate2" if has_vocabulary and (folder / _CTRANSLATE2_WEIGHTS).is_file() else None


def require_packages(engine: Engine, *names: str) -> None:
    """Checks that the packages of an engine are installed, without importing them.

    Args:
        engine: Also the name of the extra that brings them.
        *names: Packages, by the name they are imported by.

    Raises:
        ValueError: Naming what is missing, and the extra.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{engine} needs the package {', '.join(missing)}: pip install 'kakehashi[{engine}]'")


@contextmanager
def filled_at_once(output_dir: Path) -> Iterator[Path]:
    """Yields a new folder to write to, which becomes `output_dir` when everything inside has been written.

    Args:
        output_dir: The folder to make; it must not exist or be empty.

    Raises:
        ValueError: If there is a file in its place, or it holds something.
    """
    require_free_folder(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    aside = output_dir.with_name(f".{output_dir.name}.{os.getpid()}")
    aside.mkdir()
    try:
        yield aside
        if output_dir.exists():
            output_dir.rmdir()
        aside.rename(output_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def require_free_folder(output_dir: Path) -> None:
    """Checks that nothing would be lost by making a folder.

    Raises:
        ValueError: If there is a file in its place, or it holds something.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"`output_dir` must be a folder, got the file {output_dir}")
    if output_dir.is_dir() and any(output_dir.iterdir()):
        raise ValueError(f"`output_dir` must be empty, got {output_dir}: choose another folder or remove it")


def save_companions(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes configuration, generation settings and tokenizer beside what the engine wrote.

    A `config.json` that the engine wrote already is kept and completed: CTranslate2 reads its own keys from the file
    of the same name.
    """
    save_tokenizer(tokenizer, folder)
    if model.can_generate():
        assert model.generation_config is not None
        model.generation_config.save_pretrained(folder)
    path = folder / "config.json"
    of_engine = _read_json(path) if path.is_file() else {}
    path.write_text(json.dumps(of_engine | _describe(model), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    custom_object_save(model.config, folder)


def _describe(model: PreTrainedModel) -> dict[str, Any]:
    """The configuration as `config.json` keeps it, with the one file of code that goes along."""
    config: dict[str, Any] = json.loads(model.config.to_json_string())
    config["architectures"] = [type(model).__name__]
    config["auto_map"] = {name: home for name, home in config["auto_map"].items() if name == "AutoConfig"}
    # They run the model's own class, which the folder does not hold.
    config.pop("custom_pipelines", None)
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON, but cannot be read: {error}") from error
