"""Perplexity from token losses that a model has already computed.

Loaded with `evaluate.load(<path of this file>)`, which copies the file elsewhere and reads its imports with a simple
parser: so it imports nothing of kakehashi, and one module a line.
"""

import math

import datasets
import evaluate

_DESCRIPTION = """\
Perplexity: e to the mean loss of a token. A model that chose blindly among n tokens would have perplexity n.
loss: the mean over all tokens of all rows, in nats.
perplexity: its exponential; infinite where that is no number a computer can hold.
"""

_INPUTS = """\
predictions: the mean loss of a token in each row (a text or a batch), in nats, list of float.
references: how many tokens each mean was taken over, list of int.
"""

_CITATION = "Jelinek et al. (1977), Perplexity: a measure of the difficulty of speech recognition tasks."


class Perplexity(evaluate.Metric):
    """Perplexity of rows of different lengths, weighted by their tokens."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[int]) -> dict[str, float]:
        num_tokens = sum(references)
        if num_tokens <= 0:
            raise ValueError(f"`references` must count at least one token, but they sum to {num_tokens}.")
        products = (loss * tokens for loss, tokens in zip(predictions, references, strict=True))
        loss = math.fsum(products) / num_tokens
        try:
            return {"loss": loss, "perplexity": math.exp(loss)}
        except OverflowError:
            return {"loss": loss, "perplexity": math.inf}
