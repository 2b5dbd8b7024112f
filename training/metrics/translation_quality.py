"""Exact match, chrF and BLEU of generated texts, each against one or several right answers.

Loaded with `evaluate.load(<path of this file>)`, which copies the file elsewhere and reads its imports with a simple
parser: so it imports nothing of kakehashi, and one module a line.
"""

import re
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import sacrebleu

_DESCRIPTION = """\
Compares generated texts with right answers. Each number lies between 0 and 1, and 1 is best.
exact_match: share of texts that equal one of their references, character by character.
chrf: character n-gram F-score (chrF2), which needs no division into words.
bleu: corpus BLEU; Japanese is divided into words by MeCab with the IPA dictionary, any other language by mteval-13a.
  It is 0 where no text has as many as four words.
"""

_INPUTS = """\
predictions: the generated texts, list of str.
references: for each text one right answer (str), or a list of at least one.
target_language: `ja`, `en` or another code; None finds Japanese by its script in the references.
"""

_CITATION = """\
Popović (2015), chrF: character n-gram F-score for automatic MT evaluation.
Post (2018), A Call for Clarity in Reporting BLEU Scores.
"""

_TOKENIZERS = {"ja": "ja-mecab"}
_DEFAULT_TOKENIZER = "13a"
_JAPANESE = re.compile("[\u3041-\u30ff\u3400-\u9fff]")


class TranslationQuality(evaluate.Metric):
    """Exact match, chrF and BLEU, computed by sacrebleu."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": text, "references": datasets.List(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
        )

    def _compute(
        self, predictions: list[str], references: list[Any], target_language: str | None = None
    ) -> dict[str, float]:
        answers = [[each] if isinstance(each, str) else list(each) for each in references]
        for index, each in enumerate(answers):
            if not each:
                raise ValueError(
                    f"`references` must hold at least one right answer for each text, row {index} has none."
                )
        # sacrebleu wants one list per rank of reference, with None where a text has no further one.
        ranks = range(max(len(each) for each in answers))
        streams: list[list[Any]] = [[each[rank] if rank < len(each) else None for each in answers] for rank in ranks]
        language = target_language or _guess_language(answers)
        bleu = sacrebleu.BLEU(tokenize=_TOKENIZERS.get(language, _DEFAULT_TOKENIZER))
        matches = [prediction in each for prediction, each in zip(predictions, answers, strict=True)]
        return {
            "exact_match": sum(matches) / len(matches),
            "chrf": sacrebleu.CHRF().corpus_score(predictions, streams).score / 100,
            # A sum of logarithms, which rounding can leave above 1.
            "bleu": min(1.0, bleu.corpus_score(predictions, streams).score / 100),
        }


def _guess_language(answers: Sequence[Sequence[str]]) -> str:
    """Returns `ja` if most of the first answers hold Japanese script, else `en`."""
    japanese = sum(bool(_JAPANESE.search(each[0])) for each in answers)
    return "ja" if 2 * japanese > len(answers) else "en"
