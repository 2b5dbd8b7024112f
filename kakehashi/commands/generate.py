"""`kakehashi generate` and `kakehashi translate`: one line of text in, one line out."""

from enum import Enum
from typing import Annotated

import typer

from kakehashi.commands import options
from kakehashi.commands.lines import answer_lines
from kakehashi.commands.terminal import silence_libraries


class Language(str, Enum):
    """A language `kakehashi translate` translates into."""

    ja = "ja"
    en = "en"


Raw = Annotated[
    bool, typer.Option("--raw", help="Give TEXT to the model as it is, not as the turn of a conversation.")
]
To = Annotated[Language, typer.Option("--to", help="Language to translate into.")]


def generate(
    model: options.Model,
    texts: options.Texts = None,
    raw: Raw = False,
    batch_size: options.BatchSize = 16,
    max_new_tokens: options.MaxNewTokens = 128,
    num_beams: options.NumBeams = 1,
    do_sample: options.DoSample = False,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    device: options.DeviceName = options.Device.auto,
    dtype: options.DtypeName = options.Dtype.auto,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Answer each TEXT, or each line of stdin, with one line of text."""
    silence_libraries()
    import torch

    from kakehashi.training.inference import generate_texts, load_for_generation

    network, tokenizer = load_for_generation(
        model, device=device.argument, dtype=dtype.argument, trust_remote_code=trust_remote_code
    )
    # Once, not for each chunk of lines: otherwise every chunk would draw the same numbers.
    torch.manual_seed(seed)

    def answer(lines: list[str]) -> list[str]:
        return generate_texts(
            network,
            tokenizer,
            lines,
            raw=raw,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            do_sample=do_sample,
            temperature=temperature,
            top_p=top_p,
        )

    answer_lines(texts, answer, batch_size=batch_size)


def translate(
    model: options.Model,
    texts: options.Texts = None,
    *,
    to: To,
    batch_size: options.BatchSize = 16,
    max_new_tokens: options.MaxNewTokens = 128,
    num_beams: options.NumBeams = 1,
    device: options.DeviceName = options.Device.auto,
    dtype: options.DtypeName = options.Dtype.auto,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Translate each TEXT, or each line of stdin, into one line of Japanese or English.

    The model is asked with the instruction it was tuned on.
    """
    silence_libraries()
    from kakehashi.training.inference import generate_texts, load_for_generation, translation_template

    network, tokenizer = load_for_generation(
        model, device=device.argument, dtype=dtype.argument, trust_remote_code=trust_remote_code
    )
    template = translation_template(network.config, to.value)

    def answer(lines: list[str]) -> list[str]:
        return generate_texts(
            network,
            tokenizer,
            [template.replace("{text}", line) for line in lines],
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
        )

    answer_lines(texts, answer, batch_size=batch_size)
