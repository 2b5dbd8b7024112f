"""Frames around a verb and its object: habits, events, wishes, abilities, requests and the like."""

from collections.abc import Callable, Sequence
from random import Random

from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.actions import Action, actions_for
from kakehashi.training.sample_corpus.adjuncts import FREQUENCIES, FUTURE_TIMES, HABIT_TIMES, PAST_TIMES, Time
from kakehashi.training.sample_corpus.clauses import (
    NOTHING,
    be_clause,
    do_clause,
    finish,
    is_question,
    modal_clause,
    simple,
    verb_phrase,
    wish,
)
from kakehashi.training.sample_corpus.english import Subject
from kakehashi.training.sample_corpus.frame import Form, Frame, Slots, choose_subject, pick
from kakehashi.training.sample_corpus.japanese import Predicate, Verb, copula, i_adjective, te_iru
from kakehashi.training.sample_corpus.nouns import Noun, nouns_of
from kakehashi.training.sample_corpus.render import (
    Options,
    Part,
    Pattern,
    Rendered,
    definite,
    demonstrative,
    generic,
    japanese_patterns,
    negated,
    one,
    owned,
    singular,
)

# Several people wear hats and lose their hats, one each.
_OF_SEVERAL = ("our", "their")


def _object_phrase(action: Action, noun: Noun | None, possessive: str, *, in_general: bool = False) -> Options:
    """Returns the object as the action takes it: "an apple", "apples", "the window", "my hands"."""
    if noun is None:
        return NOTHING
    if action.determiner == "own":
        return owned(noun, possessive)
    if action.english == "wear {}" and possessive in _OF_SEVERAL:
        return generic(noun)
    if action.determiner == "the":
        return generic(noun) if in_general and noun.kind == "count" else definite(noun)
    if action.determiner == "bare":
        return (noun.english, f"the {noun.english}") if noun.kind in ("mass", "count") else (noun.english,)
    is_plural = action.determiner == "many" or (in_general and action.determiner == "a")
    return generic(noun) if is_plural else singular(noun)


def _object_part(action: Action, noun: Noun | None, particle: str | None = None) -> Options:
    """Returns the Japanese object with its particle, `particle` instead of を where given (が before a potential)."""
    if noun is None:
        return NOTHING
    if particle is not None and action.particle == "を":
        return (noun.japanese + particle, noun.japanese + "を")
    return one(noun.japanese + action.particle)


def _choose(random: Random, form: Form, actions: Sequence[Action]) -> Slots:
    action = pick(random, actions)
    noun = pick(random, action.objects) if action.objects else None
    return Slots(choose_subject(random, form), action, noun)


def _chooser(letter: str) -> Callable[[Random, Form], Slots]:
    actions = actions_for(letter)
    # An action is drawn as often as it has objects (within bounds), so that every word has its turn.
    weighted = [action for action in actions for _ in range(min(12, max(4, len(action.objects))))]
    return lambda random, form: _choose(random, form, weighted)


# Done every day, or on Sundays, but hardly "every week".
_DAILY = ("wear {}", "open {}", "close {}", "brush {}", "feed {}", "wash {}", "take {}", "use {}", "look at {}")


def _timed_chooser(letter: str, times: Sequence[Time]) -> Callable[[Random, Form], Slots]:
    choose = _chooser(letter)

    def choose_with_time(random: Random, form: Form) -> Slots:
        slots = choose(random, form)
        assert slots.action is not None
        fitting = [time for time in times if time.suits(slots.action.times)]
        if slots.action.english in _DAILY:
            fitting = [time for time in fitting if time.english != "every week"]
        time = pick(random, fitting or [time for time in times if time.kind == "near"])
        return Slots(slots.subject, slots.action, slots.noun, extra=time)

    return choose_with_time


def _parts(slots: Slots) -> tuple[Subject, Action, Noun | None]:
    assert slots.subject is not None and slots.action is not None
    return slots.subject, slots.action, slots.noun


def _choose_habit(random: Random, form: Form) -> Slots:
    slots = _choose_habitual(random, form)
    # "I read the textbook every day" does not say when.
    while form == "past" and slots.action is not None and en.past(slots.action.english) == slots.action.english:
        slots = _choose_habitual(random, form)
    return slots


def _render_habit(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive, in_general=action.determiner != "the")
    english = [*do_clause(subject, action.english, objects, form), slots.extra.english]
    middle = [_object_part(action, noun)]
    predicate = simple(action.japanese, form)
    time = one(slots.extra.japanese)
    japanese = japanese_patterns(subject.topic(), time, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _choose_frequency(random: Random, form: Form) -> Slots:
    slots = _choose(random, form, _FREQUENT)
    return Slots(slots.subject, slots.action, slots.noun, extra=pick(random, FREQUENCIES))


def _render_frequency(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    adverb, japanese_adverb = slots.extra
    objects = _object_phrase(action, noun, subject.possessive, in_general=action.determiner != "the")
    if form == "question":
        english: list[str | Options] = [subject.do(), subject.english, adverb, verb_phrase(action.english, objects)]
    else:
        english = [subject.english, adverb, verb_phrase(en.agree(action.english, subject), objects)]
    middle = [_object_part(action, noun)]
    predicate = action.japanese.present()
    japanese = japanese_patterns(subject.topic(), one(japanese_adverb), middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_event(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive)
    english = [*do_clause(subject, action.english, objects, form), slots.extra.english]
    middle = [_object_part(action, noun)]
    predicate = simple(action.japanese, form)
    japanese = japanese_patterns(subject.topic(), slots.extra.written, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_future(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive)
    english = [*modal_clause(subject, "will", action.english, objects, form), slots.extra.english]
    middle = [_object_part(action, noun)]
    predicate = simple(action.japanese, form)
    japanese = japanese_patterns(subject.topic(), slots.extra.written, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_plan(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive)
    english = [*be_clause(subject, form), verb_phrase(f"planning to {action.english}", objects), slots.extra.english]
    middle = [_object_part(action, noun), action.japanese.dictionary]
    japanese = japanese_patterns(
        subject.topic(), slots.extra.written, middle, copula("つもり", attributive="の"), question=is_question(form)
    )
    return finish(slots, form, english, japanese)


def _render_progressive(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive)
    english = [*be_clause(subject, form), verb_phrase(en.ing(action.english), objects), "now"]
    middle = [("今、", "今"), _object_part(action, noun)]
    predicate = simple(te_iru(action.japanese), form)
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_wish(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive)
    english = do_clause(subject, f"want to {action.english}", objects, form)
    middle = [_object_part(action, noun)]
    predicate = wish(action.japanese, subject, form)
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_ability(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive, in_general=True)
    english = modal_clause(subject, "can", action.english, objects, form)
    middle = [_object_part(action, noun, "が")]
    predicate = simple(action.japanese.potential, form)
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _this_object(action: Action, noun: Noun | None, possessive: str) -> tuple[Options, str]:
    """Returns the object of a request: "this book" (この本), "the window" where only one is meant (窓)."""
    if noun is None:
        return NOTHING, ""
    if action.determiner == "own":
        return owned(noun, possessive), noun.japanese
    if noun.kind in ("the", "bare"):
        return _object_phrase(action, noun, possessive), noun.japanese
    return one(demonstrative(noun)), "この" + noun.japanese


def _addressed(
    action: Action, noun: Noun | None, possessive: str, prefix: str, predicate: Predicate, *, question: bool = False
) -> tuple[list[Part], tuple[tuple[Pattern, ...], tuple[Pattern, ...]]]:
    """Returns both languages of a sentence addressed to someone, without a spoken subject."""
    objects, japanese_object = _this_object(action, noun, possessive)
    english: list[Part] = [prefix, verb_phrase(action.english, objects)]
    part = one(japanese_object + action.particle if noun is not None else "")
    return english, japanese_patterns(NOTHING, NOTHING, [part], predicate, question=question)


def _render_request(slots: Slots, form: Form) -> Rendered:
    _, action, noun = _parts(slots)
    te = action.japanese.te
    predicate = Predicate((te + "ください",), (te + "くれ", te), (te,), te)
    return finish(slots, "request", *_addressed(action, noun, "your", "please", predicate))


def _render_please_do_not(slots: Slots, form: Form) -> Rendered:
    _, action, noun = _parts(slots)
    nai = action.japanese.nai + "で"
    predicate = Predicate((nai + "ください",), (nai + "くれ", nai), (nai,), nai)
    return finish(slots, "request", *_addressed(action, noun, "your", "please don't", predicate))


def _render_prohibition(slots: Slots, form: Form) -> Rendered:
    _, action, noun = _parts(slots)
    predicate = _compound(action.japanese.te + "は", Verb("いける", "ichidan").negative())
    return finish(slots, "negative", *_addressed(action, noun, "your", "you must not", predicate))


def _compound(prefix: str, predicate: Predicate) -> Predicate:
    return predicate.after(prefix)


def _render_permission(slots: Slots, form: Form) -> Rendered:
    _, action, noun = _parts(slots)
    predicate = i_adjective("いい").after(action.japanese.te + "も")
    asks = is_question(form)
    prefix, possessive = ("may I", "my") if asks else ("you may", "your")
    return finish(slots, form, *_addressed(action, noun, possessive, prefix, predicate, question=asks))


def _render_lets(slots: Slots, form: Form) -> Rendered:
    _, action, noun = _parts(slots)
    verb = action.japanese
    plain = verb.volitional
    predicate = Predicate((verb.masu_stem + "ましょう",), (plain,), (plain + "か",), plain)
    asks = is_question(form)
    objects = _object_phrase(action, noun, "our")
    english: list[str | Options] = ["shall we" if asks else "let's", verb_phrase(action.english, objects)]
    japanese = japanese_patterns(NOTHING, NOTHING, [_object_part(action, noun)], predicate, question=asks)
    return finish(slots, form, english, japanese)


def _render_obligation(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects, japanese_object = _this_object(action, noun, subject.possessive)
    english = do_clause(subject, f"have to {action.english}", objects, form)
    part = japanese_object + action.particle if noun is not None else ""
    must = Verb("なる", "godan")
    stem = action.japanese.nai_stem
    if form == "negative":
        predicate = i_adjective("いい").after(stem + "なくても")
    else:
        predicate = (must.past_negative() if form == "past" else must.negative()).after(stem + "なければ")
    japanese = japanese_patterns(subject.topic(), NOTHING, [part], predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


# What one remembers having done for once; nobody asks whether one has ever drunk water.
_MEMORABLE: dict[str, str] = {"eat {}": "tasted", "drink {}": "tasted", "wear {}": "worn on occasion"}


def _choose_experience(random: Random, form: Form) -> Slots:
    slots = _choose_experienced(random, form)
    while slots.action is not None and slots.noun is not None and slots.action.english in _MEMORABLE:
        if _MEMORABLE[slots.action.english] in slots.noun.classes:
            break
        slots = _choose_experienced(random, form)
    return slots


def _render_experience(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive)
    have = "has" if subject.person == "third" else "have"
    # Who went and came back has "been to" a place.
    visited = action.english.startswith("go to ")
    participle = verb_phrase("been to {}" if visited else en.past_participle(action.english), objects)
    english: list[str | Options]
    if form == "question":
        english = [have, subject.english, "ever", participle]
    elif form == "negative":
        english = [subject.english, have, "never", participle]
    else:
        english = [subject.english, have, participle, "before"]
    aru = Verb("ある", "godan")
    predicate = aru.negative() if form == "negative" else aru.present()
    middle = [_object_part(action, noun), action.japanese.ta + "ことが"]
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_liking(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive, in_general=True)
    english = do_clause(subject, f"like {en.ing(action.english)}", objects, form)
    middle = [_object_part(action, noun), action.japanese.dictionary + "のが"]
    predicate = copula("好き", negative=form == "negative")
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_skill(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive, in_general=True)
    english = [*be_clause(subject, form), "good at", verb_phrase(en.ing(action.english), objects)]
    middle = [_object_part(action, noun), action.japanese.dictionary + "のが"]
    predicate = copula("得意", negative=form == "negative")
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_beginning(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    objects = _object_phrase(action, noun, subject.possessive, in_general=True)
    english = do_clause(subject, f"start {en.ing(action.english)}", objects, form)
    middle = [_object_part(action, noun)]
    predicate = simple(Verb(action.japanese.masu_stem + "始める", "ichidan"), form)
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


_OPINIONS: tuple[tuple[str, str, bool], ...] = (
    ("fun", "楽しい", False),
    ("difficult", "難しい", False),
    ("easy", "簡単", True),
)


def _choose_opinion(random: Random, form: Form) -> Slots:
    slots = _choose(random, form, _PLEASANT)
    assert slots.action is not None
    opinion = pick(random, _OPINIONS) if "c" in slots.action.frames else _OPINIONS[0]
    return Slots(slots.subject, slots.action, slots.noun, extra=opinion)


def _render_opinion(slots: Slots, form: Form) -> Rendered:
    _, action, noun = _parts(slots)
    word, japanese_word, is_na = slots.extra
    phrase = verb_phrase(en.ing(action.english), _object_phrase(action, noun, "your", in_general=True))
    negative, past = "negative" in form, "past" in form
    be = "was" if past else "is"
    asks = is_question(form)
    english: list[str | Options] = [be, phrase] if asks else [phrase, negated(be) if negative else be]
    conjugate = copula if is_na else i_adjective
    middle = [_object_part(action, noun), action.japanese.dictionary + "のは"]
    predicate = conjugate(japanese_word, negative=negative, past=past)
    japanese = japanese_patterns(NOTHING, NOTHING, middle, predicate, question=asks)
    return finish(slots, form, [*english, word], japanese)


# (verb as in the table of actions, classes of its object, place in English, place in Japanese)
_SCENES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("see {}", ("wild animal",), "at the zoo", "動物園で"),
    ("see {}", ("aquarium animal",), "at the aquarium", "水族館で"),
    ("see {}", ("livestock",), "on a farm", "牧場で"),
    ("draw {}", ("wild animal",), "at the zoo", "動物園で"),
    ("take a picture of {}", ("wild animal",), "at the zoo", "動物園で"),
    ("take a picture of {}", ("aquarium animal",), "at the aquarium", "水族館で"),
    ("eat {}", ("dish",), "at a restaurant", "レストランで"),
    ("order {}", ("orderable",), "at a restaurant", "レストランで"),
    ("drink {}", ("cup drink",), "at a cafe", "カフェで"),
    ("eat {}", ("cafe food",), "at a cafe", "カフェで"),
    ("buy {}", ("fruit", "vegetable", "ingredient", "glass drink"), "at the supermarket", "スーパーで"),
    ("study {}", ("studied",), "in the library", "図書館で"),
    ("study {}", ("studied",), "in the classroom", "教室で"),
    ("write {}", ("document", "mail"), "at the office", "会社で"),
    ("copy {}", ("document",), "at the office", "会社で"),
    ("buy {}", ("ticket only",), "at the station", "駅で"),
    ("buy {}", ("travel souvenirs",), "at the airport", "空港で"),
    ("make {}", ("cookable",), "in the kitchen", "台所で"),
    ("buy {}", ("top", "outer", "skirt", "legwear"), "at a clothing store", "洋服屋で"),
    ("try on {}", ("wearable", "below the waist"), "at a clothing store", "洋服屋で"),
    ("buy {}", ("footwear",), "at a shoe store", "靴屋で"),
    ("buy {}", ("remedy", "care thing"), "at the pharmacy", "薬局で"),
)


def _scenes() -> list[tuple[Action, tuple[Noun, ...], str, str]]:
    scenes = []
    for verb, classes, place, japanese_place in _SCENES:
        nouns = nouns_of(*classes)
        for action in actions_for("p"):
            members = tuple(noun for noun in action.objects if noun in nouns)
            if action.english == verb and members:
                scenes.append((action, members, place, japanese_place))
    return scenes


def _choose_scene(random: Random, form: Form) -> Slots:
    action, nouns, place, japanese_place = pick(random, _ALL_SCENES)
    time = pick(random, _PLAIN_PAST_TIMES)
    return Slots(choose_subject(random, form), action, pick(random, nouns), extra=(time, place, japanese_place))


def _render_scene(slots: Slots, form: Form) -> Rendered:
    subject, action, noun = _parts(slots)
    time, place, japanese_place = slots.extra
    objects = _object_phrase(action, noun, subject.possessive)
    english = [*do_clause(subject, action.english, objects, form), place, time.english]
    middle = [japanese_place, _object_part(action, noun)]
    predicate = simple(action.japanese, form)
    japanese = japanese_patterns(subject.topic(), time.written, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


_choose_experienced = _chooser("e")
_choose_habitual = _timed_chooser("h", HABIT_TIMES)
# What one does daily without thinking is not told as happening "sometimes".
_FREQUENT = tuple(action for action in actions_for("h") if action.determiner != "own")
# Eating and drinking is liked for the taste; nobody calls it fun.
_PLEASANT = tuple(action for action in actions_for("k") if action.english not in ("eat {}", "drink {}"))
_ALL_SCENES = _scenes()
# With a place in the sentence, the time word is a short one.
_PLAIN_PAST_TIMES = tuple(time for time in PAST_TIMES if time.suits(("day",)) and len(time.english.split()) < 4)
_STATES: tuple[Form, ...] = ("present", "negative", "question")

ACTION_FRAMES: tuple[Frame, ...] = (
    Frame("habit", ("present", "question", "past"), _choose_habit, _render_habit, 2.0),
    Frame("frequency", ("present", "question"), _choose_frequency, _render_frequency),
    Frame("event", ("past", "past negative", "past question"), _timed_chooser("p", PAST_TIMES), _render_event, 4.0),
    Frame("scene", ("past", "past question"), _choose_scene, _render_scene, 2.0),
    Frame("future", _STATES, _timed_chooser("f", FUTURE_TIMES), _render_future, 2.5),
    Frame("plan", ("present", "question"), _timed_chooser("f", FUTURE_TIMES), _render_plan),
    Frame("progressive", _STATES, _chooser("g"), _render_progressive, 2.0),
    Frame("wish", (*_STATES, "past"), _chooser("w"), _render_wish, 2.5),
    Frame("ability", _STATES, _chooser("c"), _render_ability, 1.5),
    Frame("request", ("request",), _chooser("r"), _render_request, 0.8),
    Frame("please do not", ("request",), _chooser("n"), _render_please_do_not, 0.5),
    Frame("prohibition", ("negative",), _chooser("n"), _render_prohibition, 0.5),
    Frame("permission", ("present", "question"), _chooser("y"), _render_permission, 0.8),
    Frame("let us", ("suggestion", "question"), _chooser("l"), _render_lets, 0.8),
    Frame("obligation", ("present", "negative", "past"), _chooser("m"), _render_obligation, 1.5),
    Frame("experience", _STATES, _choose_experience, _render_experience, 1.5),
    Frame("liking to do", _STATES, _chooser("k"), _render_liking, 1.5),
    Frame("skill", _STATES, _chooser("c"), _render_skill),
    Frame("beginning", ("past",), _chooser("s"), _render_beginning),
    Frame("opinion on doing", ("present", "negative", "question", "past"), _choose_opinion, _render_opinion, 0.7),
)
