"""The folder of an exported model: which engine it is for, and what lies beside the graphs.

Besides what the engine reads, a folder holds `config.json`, `generation_config.json` and the tokenizer, so that
`AutoConfig`, `AutoTokenizer` and `GenerationConfig` read it as they read the model folder it came from.
"""

import importlib.util
import json
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
