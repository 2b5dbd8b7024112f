"""The arguments and options that several commands share."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Device(str, Enum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"

    @property
    def argument(self) -> str | None:
        """The name as the loading functions take it: `None` leaves the choice to them."""
        return None if self is Device.auto else self.value


class Dtype(str, Enum):
    """The number format of the weights while the model runs; `auto` keeps the stored one."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"

    @property
    def argument(self) -> str | None:
        """The name as the loading functions take it: `None` leaves the choice to them."""
        return None if self is Dtype.auto else self.value


Model = Annotated[str, typer.Argument(help="A model folder, or a model id on the Hugging Face Hub.", metavar="MODEL")]
Texts = Annotated[
    list[str] | None,
    typer.Argument(help="Texts, one answer line each. Without any, lines are read from stdin.", metavar="TEXT"),
]
TokenizerName = Annotated[str, typer.Option("--tokenizer", "-t", help="Tokenizer or model folder, or a Hub id.")]
OutputDir = Annotated[Path, typer.Option(help="Folder to make; it must not exist or be empty.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Texts that run through the model together.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
NumBeams = Annotated[int, typer.Option(min=1, help="Beams of the search; 1 is greedy.")]
DoSample = Annotated[bool, typer.Option("--do-sample", help="Draw tokens at random instead of taking the likeliest.")]
Temperature = Annotated[float, typer.Option(min=0.01, help="With --do-sample: below 1 is safer, above 1 is wilder.")]
TopP = Annotated[float, typer.Option(min=0.01, max=1.0, help="With --do-sample: draw from this share of probability.")]
Seed = Annotated[int, typer.Option(help="With --do-sample: the same seed draws the same answers.")]
DeviceName = Annotated[Device, typer.Option(help="Where to run; auto takes the accelerator if there is one.")]
DtypeName = Annotated[Dtype, typer.Option(help="Number format of the weights; auto keeps the stored one.")]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run model code that comes with MODEL. Only for authors you trust."),
]
