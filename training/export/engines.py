"""The two entrances: a model into an engine's folder, and such a folder back into something that answers."""

from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.training.aside import fill_new_folder
from kakehashi.training.export.folder import (
    ENGINES,
    QUANTIZATIONS,
    Engine,
    Quantization,
    save_companions,
)

_MODEL_TYPE = "kakehashi"


def export_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    output_dir: str | Path,
    engine: Engine,
    quantization: Quantization | None = None,
) -> None:
    """Writes a model for an engine, with its tokenizer and configurations, whole or not at all.

    Args:
        model: A kakehashi model; it is left as it is.
        tokenizer: Its tokenizer.
        output_dir: The folder to make; it must not exist or be empty.
        engine: `onnx` or `ctranslate2`.
        quantization: Number format of the matrices: `int8`, `float16`, or `None` for float32, whose answers are those
            of the model.

    Raises:
        ValueError: If the folder is taken, the engine's packages are missing, or the engine cannot run this model.
    """
    if engine not in ENGINES:
        raise ValueError(f"`engine` must be one of {', '.join(ENGINES)}, got {engine!r}")
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise ValueError(f"`quantization` must be one of {', '.join(QUANTIZATIONS)} or None, got {quantization!r}")
    if model.config.model_type != _MODEL_TYPE:
        raise ValueError(f"`model` must be a kakehashi model to be exported, got {model.config.model_type}")
    if engine == "onnx":
        from kakehashi.training.export.onnx import write_onnx as write
    else:
        from kakehashi.training.export.ctranslate2 import write_ctranslate2 as write
    with fill_new_folder(Path(output_dir)) as folder:
        write(model, tokenizer, folder, quantization)
        save_companions(model, tokenizer, folder)


def load_exported(
    folder: str | Path, engine: Engine, config: PreTrainedConfig, device: str | None = None, dtype: str | None = None
) -> Any:
    """Returns a model that answers as the one it was exported from: `generate` for text, a call for labels.

    Args:
        folder: An exported folder.
        engine: What `engine_of` says of it.
        config: The configuration in it.
        device: Where to run; `None` takes a GPU if the engine has one.
        dtype: Number format to compute in, which CTranslate2 can choose when it loads; `None` keeps the stored one.

    Raises:
        ValueError: If the engine's packages are missing, or it lacks the device or the number format.
    """
    generation_config = None
    if (Path(folder) / "generation_config.json").is_file():
        generation_config = GenerationConfig.from_pretrained(str(folder))
    if engine == "onnx":
        from kakehashi.training.export.onnx_model import load_onnx

        if dtype is not None:
            raise ValueError(
                f"`dtype` of {folder} is fixed by its graphs, got {dtype}: leave it out, or export the model again "
                "with another `--quantization`"
            )
        return load_onnx(Path(folder), config, generation_config, device)
    from kakehashi.training.export.ctranslate2_model import load_ctranslate2

    return load_ctranslate2(Path(folder), config, generation_config, device, dtype)
