"""Writes the configuration of a T5 v1.1 with as many parameters as a kakehashi preset, for equal-time comparisons.

    python benchmarks/t5_config.py --preset mini --tokenizer runs/tokenizer --output-dir runs/t5-config
    kakehashi instruct tatoeba.yaml --model runs/t5-config --tokenizer runs/tokenizer --output_dir runs/t5

T5 keeps its own design: as many decoder as encoder layers, relative position bias, gated GELU, no grouped-query
attention, one tied embedding. Its width and heads are the preset's; its feed-forward width is what makes the counts
equal.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from kakehashi import KakehashiConfig, KakehashiForConditionalGeneration


def count_parameters(model_class: type, config: object) -> int:
    """Returns the parameters of a model that is never given memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model_class(config).parameters())


def main(
    preset: Annotated[str, typer.Option(help="Kakehashi preset to match.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of the tokenizer both will use.")],
    output_dir: Annotated[Path, typer.Option(help="Folder to write config.json to.")],
) -> None:
    """Writes config.json and prints both parameter counts."""
    vocabulary = AutoTokenizer.from_pretrained(tokenizer)
    ours = KakehashiConfig.preset(preset, vocab_size=len(vocabulary))
    target = count_parameters(KakehashiForConditionalGeneration, ours)
    num_layers = (ours.num_encoder_layers + ours.num_decoder_layers) // 2

    def config(feed_forward: int) -> T5Config:
        return T5Config(
            vocab_size=len(vocabulary),
            d_model=ours.hidden_size,
            d_kv=ours.head_dim,
            num_heads=ours.num_attention_heads,
            d_ff=feed_forward,
            num_layers=num_layers,
            num_decoder_layers=num_layers,
            feed_forward_proj="gated-gelu",
            # The field's recipe pretrains T5 v1.1 without dropout, and ours has none either.
            dropout_rate=0.0,
            pad_token_id=vocabulary.pad_token_id,
            eos_token_id=vocabulary.eos_token_id,
            decoder_start_token_id=vocabulary.bos_token_id,
        )

    # The count grows by the same amount with every unit of feed-forward width.
    smallest = count_parameters(T5ForConditionalGeneration, config(1))
    per_unit = count_parameters(T5ForConditionalGeneration, config(2)) - smallest
    matched = config(1 + max(0, round((target - smallest) / per_unit)))
    matched.architectures = ["T5ForConditionalGeneration"]
    matched.save_pretrained(output_dir)
    print(f"kakehashi {preset}: {target:,} parameters")
    print(f"T5 v1.1, {num_layers} + {num_layers} layers, d_ff {matched.d_ff}: ", end="")
    print(f"{count_parameters(T5ForConditionalGeneration, matched):,} parameters")


if __name__ == "__main__":
    typer.run(main)
