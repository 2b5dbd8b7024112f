"""Building blocks of a sentence: alternatives, noun phrases, and the pair of languages they add up to."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product

from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.japanese import Predicate
from kakehashi.training.sample_corpus.nouns import Noun

# Ways to say one part of a sentence; the first is the canonical one, "" means the part may be left out.
Options = tuple[str, ...]
Pattern = tuple[Options, ...]
# A part as the frames write it: one string, or a tuple of alternatives.
Part = Sequence[str]

MAX_REFERENCES = 16


@dataclass(frozen=True)
class Rendered:
    """A sentence in both languages, with every alternative the grammar allows.

    Attributes:
        english: Parts of the English sentence, joined by spaces.
        polite: Orders of the parts of the polite Japanese sentence, the canonical order first.
        plain: The same for the plain form.
        words: Keys of the content words, for the held-out split.
        topic: One of `nouns.TOPICS`.
        sentence_type: `"statement"`, `"negative"`, `"question"`, `"request"` or `"suggestion"`.
    """

    english: tuple[Pattern, ...]
    polite: tuple[Pattern, ...]
    plain: tuple[Pattern, ...]
    words: tuple[str, ...]
    topic: str
    sentence_type: str


def expand(patterns: Sequence[Pattern], separator: str) -> list[str]:
    """Returns every distinct sentence the patterns allow (at most `MAX_REFERENCES`), the canonical one first."""
    share = max(2, MAX_REFERENCES // len(patterns))
    texts = (
        separator.join(filter(None, choice)) for pattern in patterns for choice in islice(product(*pattern), share)
    )
    return list(dict.fromkeys(texts))


def capitalized(text: str) -> str:
    """Returns the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def one(text: str) -> Options:
    """Returns a part that can be said in one way only."""
    return (text,)


def _options(part: Part) -> Options:
    return (part,) if isinstance(part, str) else tuple(part)


def english_words(*parts: Part) -> Pattern:
    """Returns a pattern from words and alternatives."""
    return tuple(_options(part) for part in parts)


def japanese_patterns(
    subject: Options,
    time: Options,
    middle: Sequence[Part],
    predicate: Predicate,
    *,
    question: bool = False,
) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
    """Returns the polite and the plain patterns of a sentence; a time word may stand before or after the subject.

    Args:
        subject: Forms of the subject with its particle, `("",)` without subject.
        time: Forms of the time word, `("",)` without.
        middle: What stands between time and predicate.
        predicate: The predicate.
        question: Whether the sentence asks.
    """
    parts = tuple(_options(part) for part in middle)
    if question:
        polite_end: Options = tuple(form + "。" for form in predicate.polite_question)
        plain_end: Options = tuple(form + "？" for form in predicate.plain_question)
    else:
        polite_end = tuple(form + "。" for form in predicate.polite)
        plain_end = tuple(form + "。" for form in predicate.plain)
    orders = [(subject, time)]
    if any(time) and any(subject):
        orders.append((time, subject))
    polite = tuple((*order, *parts, polite_end) for order in orders)
    plain = tuple((*order, *parts, plain_end) for order in orders)
    return polite, plain


def singular(noun: Noun) -> Options:
    """Returns "a dog", with the ways the same Japanese noun can be read; mass nouns stay bare."""
    if noun.kind == "count":
        many = en.plural(noun.english)
        return (en.with_article(noun.english), f"the {noun.english}", many, f"the {many}", f"some {many}")
    return (*generic(noun), f"some {noun.english}") if noun.kind in ("mass", "pair") else generic(noun)


def generic(noun: Noun) -> Options:
    """Returns the noun in general: "dogs", "bread", "shoes", "soccer", "the piano"."""
    if noun.kind == "count":
        many = en.plural(noun.english)
        return (many, en.with_article(noun.english), f"the {noun.english}", f"the {many}")
    if noun.kind in ("mass", "pair"):
        return (noun.english, f"the {noun.english}")
    return (noun.english,) if noun.kind == "bare" else (f"the {noun.english}",)


def definite(noun: Noun) -> Options:
    """Returns "the dog" with its other readings."""
    if noun.kind == "count":
        return (f"the {noun.english}", en.with_article(noun.english), f"the {en.plural(noun.english)}")
    return (noun.english,) if noun.kind == "bare" else (f"the {noun.english}",)


def owned(noun: Noun, possessive: str) -> Options:
    """Returns "my hat" with the readings the bare Japanese noun has."""
    if possessive in ("our", "their") and noun.kind == "count":
        return (
            f"{possessive} {en.plural(noun.english)}",
            f"{possessive} {noun.english}",
            f"the {en.plural(noun.english)}",
        )
    return (f"{possessive} {noun.english}", f"the {noun.english}")


def demonstrative(noun: Noun, *, far: bool = False) -> str:
    """Returns "this dog", "these shoes", or "that …", "those …" when `far`."""
    if noun.kind == "pair":
        return f"{'those' if far else 'these'} {noun.english}"
    return f"{'that' if far else 'this'} {noun.english}"


def is_or_are(noun: Noun, *, past: bool = False) -> str:
    """Returns the form of "to be" after a demonstrative and the noun."""
    if noun.kind == "pair":
        return "were" if past else "are"
    return "was" if past else "is"


def negated(auxiliary: str) -> Options:
    """Returns "doesn't" and "does not", the short form first; "am not" has no short form."""
    if auxiliary == "am":
        return ("am not",)
    short = {"can": "can't", "will": "won't"}.get(auxiliary, auxiliary + "n't")
    return (short, "cannot" if auxiliary == "can" else auxiliary + " not")
