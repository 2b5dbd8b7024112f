"""Instruction rows made from pairs: translation in several wordings, and changes of form and politeness."""

from collections.abc import Iterator
from random import Random
from typing import cast

from kakehashi.training.sample_corpus.frame import Form
from kakehashi.training.sample_corpus.pairs import Pair

Row = dict[str, object]

TO_JAPANESE = "Translate to Japanese: {}"
TO_ENGLISH = "Translate to English: {}"
# Wordings with the sentence in the `input` field instead.
_TO_JAPANESE_WITH_INPUT = (
    "次の文を日本語に訳してください。",
    "Translate this sentence into Japanese.",
    "日本語にしてください。",
)
_TO_ENGLISH_WITH_INPUT = (
    "次の文を英語に訳してください。",
    "Translate this sentence into English.",
    "英語にしてください。",
)

# task: (form a sentence may have → form it gets), English wordings, Japanese wordings
_CHANGES: dict[str, tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]] = {
    "make_question": (
        {"present": "question", "past": "past question"},
        ("Make this a question.", "Turn this into a question."),
        ("疑問文にしてください。", "質問の文にしてください。"),
    ),
    "make_negative": (
        {"present": "negative", "past": "past negative"},
        ("Make this negative.", "Turn this into a negative sentence."),
        ("否定文にしてください。", "「ない」の形の文にしてください。"),
    ),
    "make_past": (
        {"present": "past", "negative": "past negative", "question": "past question"},
        ("Put this into the past tense.", "Make this past tense."),
        ("過去形にしてください。", "過去の文にしてください。"),
    ),
}


# Frames in which the change turns a sensible sentence into an odd one: "I didn't buy it because it was useful".
_UNCHANGEABLE: dict[str, tuple[str, ...]] = {
    "make_negative": ("reason", "obligation", "pain", "weather", "past weather"),
    "make_question": ("pain",),
    "make_past": ("pain",),
}


def _row(task: str, instruction: str, text: str, output: str, references: tuple[str, ...]) -> Row:
    ordered = tuple(dict.fromkeys((output, *references)))
    return {"instruction": instruction, "input": text, "output": output, "references": list(ordered), "task": task}


def _translation_row(
    random: Random,
    task: str,
    inline: str,
    with_input: tuple[str, ...],
    text: str,
    output: str,
    references: tuple[str, ...],
) -> Row:
    """Returns a translation row; the inline wording is the one the `translate` command uses, so it is most common."""
    if random.random() < 0.7:
        return _row(task, inline.format(text), "", output, references)
    return _row(task, random.choice(with_input), text, output, references)


def _readable_japanese(random: Random, pair: Pair) -> str:
    """Returns the canonical sentence, or one time in five another way to write the same: dropped 私は, plain form."""
    if random.random() < 0.8:
        return pair.japanese
    variants = [text for text in pair.japanese_references if text not in (pair.japanese, "")]
    return random.choice(variants) if variants else pair.japanese


def translation_rows(random: Random, pair: Pair, *, canonical_only: bool = False) -> Iterator[Row]:
    """Yields one row for each direction.

    Args:
        random: Source of the choices.
        pair: The sentence.
        canonical_only: Whether to keep to the canonical Japanese and the wordings of the `translate` command.
    """
    if canonical_only:
        yield _row("en_ja", TO_JAPANESE.format(pair.english), "", pair.japanese, pair.japanese_references)
        yield _row("ja_en", TO_ENGLISH.format(pair.japanese), "", pair.english, pair.english_references)
        return
    yield _translation_row(
        random, "en_ja", TO_JAPANESE, _TO_JAPANESE_WITH_INPUT, pair.english, pair.japanese, pair.japanese_references
    )
    japanese = _readable_japanese(random, pair)
    yield _translation_row(
        random, "ja_en", TO_ENGLISH, _TO_ENGLISH_WITH_INPUT, japanese, pair.english, pair.english_references
    )


def _form_change_row(random: Random, pair: Pair, task: str) -> Row | None:
    """Returns a row that asks for another form, or None where no one would ask for it."""
    targets, english_wordings, japanese_wordings = _CHANGES[task]
    form = targets.get(pair.form)
    # "Do I like dogs?" and "Is my father kind?" are no questions anyone asks.
    is_about_oneself = pair.subject in ("i", "we") or pair.english.startswith(("My ", "I "))
    if form not in pair.forms or pair.frame in _UNCHANGEABLE[task] or (task == "make_question" and is_about_oneself):
        return None
    changed = pair.in_form(cast(Form, form))
    if changed.english.startswith(("What", "How")) != pair.english.startswith(("What", "How")):
        return None
    if random.random() < 0.5:
        return _row(task, random.choice(english_wordings), pair.english, changed.english, ())
    polite = tuple(text for text in changed.japanese_references if text not in changed.plain_japanese)
    return _row(task, random.choice(japanese_wordings), pair.japanese, changed.japanese, polite)


def _politeness_row(random: Random, pair: Pair) -> Row:
    plain = pair.plain_japanese
    polite = tuple(text for text in pair.japanese_references if text not in plain)
    kind = random.randrange(3)
    if kind == 0:
        wording = random.choice(("丁寧な文にしてください。", "Make this polite."))
        return _row("make_polite", wording, plain[0], polite[0], polite)
    if kind == 1:
        wording = random.choice(("普通の文にしてください。", "Make this plain."))
        return _row("make_plain", wording, polite[0], plain[0], plain)
    is_polite = random.random() < 0.5
    text = polite[0] if is_polite else plain[0]
    if random.random() < 0.5:
        return _row("which_politeness", "Is this polite or plain?", text, "Polite." if is_polite else "Plain.", ())
    return _row(
        "which_politeness", "この文は丁寧ですか、普通ですか。", text, "丁寧です。" if is_polite else "普通です。", ()
    )


def other_row(random: Random, pair: Pair) -> Row:
    """Returns a row that asks for anything but a translation: another form, or something about politeness."""
    tasks = list(_CHANGES)
    random.shuffle(tasks)
    if random.random() < 0.7:
        for task in tasks:
            row = _form_change_row(random, pair, task)
            if row is not None:
                return row
    return _politeness_row(random, pair)
