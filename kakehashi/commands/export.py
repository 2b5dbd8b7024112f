"""`kakehashi export`: a trained model for another engine."""

from enum import Enum
from typing import Annotated, Any

import typer

from kakehashi.commands import options
from kakehashi.commands.terminal import silence_libraries


class Format(str, Enum):
    """An engine that `kakehashi export` writes for."""

    onnx = "onnx"
    ctranslate2 = "ctranslate2"


class Quantization(str, Enum):
    """A number format smaller than float32."""

    int8 = "int8"
    float16 = "float16"


def export(
    model: options.Model,
    *,
    format: Annotated[Format, typer.Option(help="Engine to write for.")],
    output_dir: options.OutputDir,
    quantization: Annotated[
        Quantization | None,
        typer.Option(help="Smaller number format of the matrices; without it, answers are those of the model."),
    ] = None,
) -> None:
    r"""Write MODEL for ONNX Runtime or CTranslate2, to be run by `kakehashi generate`, `translate` or by themselves.

    Each needs an extra: pip install 'kakehashi\[onnx]' or 'kakehashi\[ctranslate2]'.
    """
    silence_libraries()
    from kakehashi.training.export.engines import export_model
    from kakehashi.training.inference import load_for_export

    network, tokenizer = load_for_export(model)
    smaller: Any = None if quantization is None else quantization.value
    export_model(network, tokenizer, output_dir, format.value, smaller)
    size = sum(path.stat().st_size for path in output_dir.rglob("*"))
    typer.echo(f"model     {model}")
    typer.echo(f"format    {format.value}, {smaller or 'float32'}")
    typer.echo(f"saved in  {output_dir}, {size / 1e6:,.1f} MB")
