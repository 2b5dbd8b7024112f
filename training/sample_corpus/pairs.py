"""English-Japanese pairs drawn from the grammar, the same ones for the same seed."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from random import Random

from kakehashi.training.sample_corpus.actions import ACTIONS
from kakehashi.training.sample_corpus.adjectives import ADJECTIVES
from kakehashi.training.sample_corpus.adjuncts import RELATIVES
from kakehashi.training.sample_corpus.frame import Form, Frame, Slots
from kakehashi.training.sample_corpus.frames import FRAMES
from kakehashi.training.sample_corpus.nouns import NOUNS, TOPICS
from kakehashi.training.sample_corpus.render import Rendered, capitalized, expand

# Drawing stops after this many draws in a row that gave nothing new: the grammar is then all but exhausted.
_MAX_REPEATS = 20_000


@dataclass(frozen=True)
class Pair:
    """One sentence in both languages.

    Attributes:
        english: Canonical English sentence.
        japanese: Canonical Japanese sentence.
        topic: One of `TOPICS`.
        sentence_type: `"statement"`, `"negative"`, `"question"`, `"request"` or `"suggestion"`.
        politeness: `"polite"` or `"plain"`, of the Japanese sentence.
        frame: Name of the frame, the same for all its forms.
        form: Form of the frame: `"present"`, `"past question"`, …
        words: Keys of the content words (`"noun:cat"`, `"verb:eat:食べる"`, `"adjective:big"`).
        english_references: Every translation of `japanese` the grammar allows, `english` first.
        japanese_references: Every translation of `english` the grammar allows, polite forms first.
        plain_japanese: The same sentences in the plain form, the canonical one first.
    """

    english: str
    japanese: str
    topic: str
    sentence_type: str
    politeness: str
    frame: str
    form: str
    words: tuple[str, ...]
    english_references: tuple[str, ...]
    japanese_references: tuple[str, ...]
    plain_japanese: tuple[str, ...]
    _slots: Slots = field(repr=False, compare=False)
    _frame: Frame = field(repr=False, compare=False)

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms this sentence can be turned into."""
        return self._frame.forms

    @property
    def subject(self) -> str:
        """Key of the subject, `""` where the frame has none."""
        return self._slots.subject.name if self._slots.subject is not None else ""

    def in_plain_form(self) -> "Pair":
        """Returns the pair with the plain Japanese sentence; the English one is the same."""
        return replace(self, japanese=self.plain_japanese[0], politeness="plain")

    def in_form(self, form: Form) -> "Pair":
        """Returns the same words in another form of the frame.

        Raises:
            ValueError: If the frame has no such form.
        """
        if form not in self._frame.forms:
            raise ValueError(f"`form` must be one of {self._frame.forms}, got {form!r}")
        return _build_pair(self._frame, self._slots, form)


def _build_pair(frame: Frame, slots: Slots, form: Form) -> Pair:
    rendered: Rendered = frame.render(slots, form)
    mark = "?" if rendered.sentence_type == "question" else "."
    english = tuple(capitalized(text) + mark for text in expand(rendered.english, " "))
    polite, plain = tuple(expand(rendered.polite, "")), tuple(expand(rendered.plain, ""))
    return Pair(
        english=english[0],
        japanese=polite[0],
        topic=rendered.topic,
        sentence_type=rendered.sentence_type,
        politeness="polite",
        frame=frame.name,
        form=form,
        words=rendered.words,
        english_references=english,
        japanese_references=polite + plain,
        plain_japanese=plain,
        _slots=slots,
        _frame=frame,
    )


def generate_pairs(seed: int = 0) -> Iterator[Pair]:
    """Yields distinct polite pairs in an order fixed by `seed`, until the grammar is all but exhausted.

    No English and no Japanese sentence comes twice, so the pairs are a one-to-one mapping between canonical sentences.

    Args:
        seed: Seed of the order.
    """
    random = Random(seed)
    bounds = list(accumulate(frame.weight for frame in FRAMES))
    seen: set[str] = set()
    repeats = 0
    while repeats < _MAX_REPEATS:
        frame = random.choices(FRAMES, cum_weights=bounds)[0]
        # The first form is the frame's natural one, so it has double weight.
        form = frame.forms[max(0, int(random.random() * (len(frame.forms) + 1)) - 1)]
        pair = _build_pair(frame, frame.choose(random, form), form)
        if pair.english in seen or pair.japanese in seen:
            repeats += 1
            continue
        repeats = 0
        seen.update((pair.english, pair.japanese))
        yield pair


def corpus_statistics() -> dict[str, int]:
    """Returns the size of the grammar: content words, frames, frames × forms, topics and words by part of speech."""
    verbs = {action.key for action in ACTIONS}
    return {
        "content_words": len(NOUNS) + len(ADJECTIVES) + len(verbs) + len(RELATIVES),
        "nouns": len(NOUNS),
        "adjectives": len(ADJECTIVES),
        "verbs": len(verbs),
        "relatives": len(RELATIVES),
        "frames": len(FRAMES),
        "frame_forms": sum(len(frame.forms) for frame in FRAMES),
        "topics": len(TOPICS),
    }
