"""What a sentence frame is: a way to choose words that fit, and a way to say them in both languages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeVar

from kakehashi.training.sample_corpus.actions import Action
from kakehashi.training.sample_corpus.adjectives import Adjective
from kakehashi.training.sample_corpus.adjuncts import OTHERS, SPEAKERS, YOU
from kakehashi.training.sample_corpus.english import Subject
from kakehashi.training.sample_corpus.nouns import Noun
from kakehashi.training.sample_corpus.render import Rendered

Form = Literal["present", "negative", "question", "past", "past negative", "past question", "request", "suggestion"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Slots:
    """The words chosen for a frame; what a frame does not need stays None.

    Attributes:
        subject: Who the sentence is about.
        action: Verb.
        noun: Object or thing.
        second: Another noun, as in comparisons.
        adjective: Adjective.
        extra: Whatever else the frame chose (a time word, a number, a row of its own table).
        keys: Keys of content words that stand in a table of the frame's own.
        label: The topic, where no noun and no action decides it.
    """

    subject: Subject | None = None
    action: Action | None = None
    noun: Noun | None = None
    second: Noun | None = None
    adjective: Adjective | None = None
    extra: Any = None
    keys: tuple[str, ...] = ()
    label: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """Keys of the content words."""
        parts = (self.action, self.noun, self.second, self.adjective)
        return (*(part.key for part in parts if part is not None), *self.keys)

    @property
    def topic(self) -> str:
        """The topic of the noun, or of the action where there is no noun.

        Raises:
            ValueError: If neither decides, since every sentence carries a label.
        """
        if self.label:
            return self.label
        if self.noun is not None:
            return self.noun.topic
        if self.action is not None and self.action.topic:
            return self.action.topic
        raise ValueError("`slots` must hold a noun or an action with a topic")


@dataclass(frozen=True)
class Frame:
    """A sentence frame.

    Attributes:
        name: Its name in the held-out split; all its forms count as one frame there.
        forms: Forms it can take; the first is the most common.
        choose: Chooses words that make a natural sentence in the given form.
        render: Says them in both languages.
        weight: How often it is drawn, relative to the others.
        may_hold_out: Whether its words may be held out; not where it alone tells something about them (the counter).
    """

    name: str
    forms: tuple[Form, ...]
    choose: Callable[[Random, Form], Slots]
    render: Callable[[Slots, Form], Rendered]
    weight: float = 1.0
    may_hold_out: bool = True


def pick(random: Random, items: Sequence[Item]) -> Item:
    """Returns one item (faster than `Random.choice`, which matters at 50,000 sentences)."""
    return items[int(random.random() * len(items))]


def choose_subject(random: Random, form: Form) -> Subject:
    """Returns a subject: "I", "we" or someone else in statements, "you" or someone else in questions."""
    if form.endswith("question"):
        return YOU if random.random() < 0.5 else pick(random, OTHERS)
    return pick(random, SPEAKERS) if random.random() < 0.4 else pick(random, OTHERS)


def sentence_type(form: Form) -> str:
    """Returns the label of a form: "statement", "negative", "question", "request" or "suggestion"."""
    if form.endswith("question"):
        return "question"
    if form.endswith("negative"):
        return "negative"
    return form if form in ("request", "suggestion") else "statement"
