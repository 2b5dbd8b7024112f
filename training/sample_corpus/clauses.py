"""Clauses: what subject, verb and object become in English, and the Japanese predicate that answers to them."""

from collections.abc import Sequence

from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.english import Subject
from kakehashi.training.sample_corpus.frame import Form, Slots, sentence_type
from kakehashi.training.sample_corpus.japanese import Predicate, Verb, i_adjective, tagatte_iru, tai
from kakehashi.training.sample_corpus.render import Options, Part, Pattern, Rendered, english_words, negated, one

# A part that is not there.
NOTHING: Options = ("",)


def finish(
    slots: Slots,
    form: Form,
    english: Sequence[Part],
    japanese: tuple[tuple[Pattern, ...], tuple[Pattern, ...]],
) -> Rendered:
    """Returns the rendered sentence with its words, topic and sentence type."""
    polite, plain = japanese
    # "Some" belongs to statements: "I bought some bread", but "I didn't buy bread".
    if sentence_type(form) in ("negative", "question"):
        english = [
            part if isinstance(part, str) else tuple(text for text in part if " some " not in text) for part in english
        ]
    return Rendered((english_words(*english),), polite, plain, slots.words, slots.topic, sentence_type(form))


def verb_phrase(english: str, objects: Options) -> Options:
    """Puts the object into the inflected verb phrase."""
    if "{}" not in english:
        return one(english)
    return tuple(english.replace("{}", phrase) for phrase in objects)


def do_clause(subject: Subject, verb: str, objects: Options, form: Form) -> list[str | Options]:
    """Returns subject and verb in any simple tense, with "do" where English needs it."""
    is_past = form.startswith("past")
    auxiliary = "did" if is_past else subject.do()
    if form.endswith("question"):
        return [auxiliary, subject.english, verb_phrase(verb, objects)]
    if form.endswith("negative"):
        return [subject.english, negated(auxiliary), verb_phrase(verb, objects)]
    return [subject.english, verb_phrase(en.past(verb) if is_past else en.agree(verb, subject), objects)]


def modal_clause(subject: Subject, modal: str, verb: str, objects: Options, form: Form) -> list[str | Options]:
    """Returns subject and verb with "will" or "can"."""
    if form.endswith("question"):
        return [modal, subject.english, verb_phrase(verb, objects)]
    if form.endswith("negative"):
        return [subject.english, negated(modal), verb_phrase(verb, objects)]
    return [subject.english, modal, verb_phrase(verb, objects)]


def be_clause(subject: Subject, form: Form) -> list[str | Options]:
    """Returns subject and "to be", in the order a statement, negative or question needs."""
    be = subject.be(past=form.startswith("past"))
    if form.endswith("question"):
        return [be, subject.english]
    return [subject.english, negated(be) if form.endswith("negative") else be]


def simple(verb: Verb, form: Form) -> Predicate:
    """Returns the Japanese predicate for a simple tense; the question mark is the caller's."""
    if form in ("past", "past question"):
        return verb.past()
    if form == "past negative":
        return verb.past_negative()
    return verb.negative() if form == "negative" else verb.present()


def is_question(form: Form) -> bool:
    """Whether the form asks."""
    return form.endswith("question")


def wants(subject: Subject, form: Form) -> Predicate:
    """Returns 欲しいです for the speaker and the one spoken to, 欲しがっています for anyone else."""
    if subject.is_first_person or subject.name == "you":
        return i_adjective("欲しい", negative="negative" in form, past="past" in form)
    return simple(Verb("欲しがっている", "ichidan"), form)


def wish(verb: Verb, subject: Subject, form: Form) -> Predicate:
    """Returns 〜たいです for the speaker and the one spoken to, 〜たがっています for anyone else."""
    is_own = subject.is_first_person or subject.name == "you"
    if is_own:
        return tai(verb, negative="negative" in form, past="past" in form)
    return simple(tagatte_iru(verb), form)
