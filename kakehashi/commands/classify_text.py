"""`kakehashi classify-text`: one line of text in, its labels with their probabilities out."""

from typing import Annotated

import typer

from kakehashi.commands import options
from kakehashi.commands.lines import answer_lines
from kakehashi.commands.terminal import silence_libraries

Threshold = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Least probability of a label, where a text may have several."),
]


def classify_text(
    model: options.Model,
    texts: options.Texts = None,
    threshold: Threshold = 0.5,
    batch_size: options.BatchSize = 16,
    device: options.DeviceName = options.Device.auto,
    dtype: options.DtypeName = options.Dtype.auto,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Label each TEXT, or each line of stdin: the label, a tab, its probability.

    Where a text may have several labels, every one that reaches the threshold follows, likeliest first, each with a
    tab before it; the line is empty if none does. A regression model gives its number alone.
    """
    silence_libraries()
    from kakehashi.training.inference import load_for_classification
    from kakehashi.training.labelling import label_texts

    network, tokenizer = load_for_classification(
        model, device=device.argument, dtype=dtype.argument, trust_remote_code=trust_remote_code
    )

    def answer(lines: list[str]) -> list[str]:
        labelled = label_texts(network, tokenizer, lines, threshold=threshold, batch_size=batch_size)
        return ["\t".join(show(*pair) for pair in pairs) for pairs in labelled]

    def show(label: str, score: float) -> str:
        return f"{score:.4f}" if network.config.problem_type == "regression" else f"{label}\t{score:.4f}"

    answer_lines(texts, answer, batch_size=batch_size)
