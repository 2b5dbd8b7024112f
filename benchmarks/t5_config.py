"""Writes the configuration of a T5 v1.1 with as many parameters as a kakehashi preset, for equal-time comparisons.

    python benchmarks/t5_config.py --preset mini --tokenizer runs/tokenizer --output-dir runs/t5-config
    kakehashi instruct tatoeba.yaml --model runs/t5-config --tokenizer runs/tokenizer --output_dir runs/t5

What the peer keeps of its own design stands in `equal_size.py`.
"""

from pathlib import Path
from typing import Annotated

import typer
from equal_size import count_parameters, match_parameters, t5_like
from transformers import AutoTokenizer, T5ForConditionalGeneration

from kakehashi import KakehashiConfig, KakehashiForConditionalGeneration


def main(
    preset: Annotated[str, typer.Option(help="Kakehashi preset to match.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of the tokenizer both will use.")],
    output_dir: Annotated[Path, typer.Option(help="Folder to write config.json to.")],
) -> None:
    """Writes config.json and prints both parameter counts."""
    vocabulary = AutoTokenizer.from_pretrained(tokenizer)
    ours = KakehashiConfig.preset(
        preset,
        vocab_size=len(vocabulary),
        pad_token_id=vocabulary.pad_token_id,
        eos_token_id=vocabulary.eos_token_id,
        decoder_start_token_id=vocabulary.bos_token_id,
    )
    target = count_parameters(KakehashiForConditionalGeneration, ours)
    matched = match_parameters(T5ForConditionalGeneration, lambda width: t5_like(ours, width), target)
    matched.architectures = ["T5ForConditionalGeneration"]
    matched.save_pretrained(output_dir)
    print(f"kakehashi {preset}: {target:,} parameters")
    print(f"T5 v1.1, {matched.num_layers} + {matched.num_decoder_layers} layers, d_ff {matched.d_ff}: ", end="")
    print(f"{count_parameters(T5ForConditionalGeneration, matched):,} parameters")


if __name__ == "__main__":
    typer.run(main)
