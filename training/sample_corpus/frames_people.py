"""Frames about people: relatives and friends, what they are like and feel, their ages, their work."""

from collections.abc import Callable, Sequence
from random import Random

from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.adjuncts import (
    FUTURE_TIMES,
    HABIT_TIMES,
    NAMES,
    PAST_TIMES,
    PRONOUNS,
    RELATIVES,
    YOU,
    I,
    Relative,
    Time,
    count_words,
)
from kakehashi.training.sample_corpus.clauses import (
    NOTHING,
    be_clause,
    do_clause,
    finish,
    is_question,
    modal_clause,
    simple,
    wish,
)
from kakehashi.training.sample_corpus.english import Subject
from kakehashi.training.sample_corpus.frame import Form, Frame, Slots, choose_subject, pick
from kakehashi.training.sample_corpus.japanese import Predicate, Verb, copula, i_adjective, te_iru, verb
from kakehashi.training.sample_corpus.nouns import Noun, nouns_of
from kakehashi.training.sample_corpus.render import Options, Rendered, japanese_patterns, one

# (English, Japanese, ages it is said of); な marks a na-adjective, だ a noun.
_TRAITS: tuple[tuple[str, str, str], ...] = (
    ("kind", "優しい", "child adult old"),
    ("strict", "厳しい", "adult old"),
    ("cheerful", "明るい", "child adult old"),
    ("funny", "面白い", "child adult old"),
    ("serious", "真面目な", "child adult old"),
    ("honest", "正直な", "child adult old"),
    ("brave", "勇敢な", "child adult"),
    ("stubborn", "頑固な", "child adult old"),
    ("friendly", "気さくな", "adult old"),
    ("polite", "礼儀正しい", "child adult old"),
    ("famous", "有名な", "adult old"),
    ("tall", "背が高い", "child adult old"),
    ("short", "背が低い", "child adult old"),
    ("smart", "頭がいい", "child adult old"),
    ("busy", "忙しい", "adult old"),
    ("young", "若い", "adult"),
    ("strong", "強い", "child adult"),
    ("patient", "我慢強い", "child adult old"),
    ("talkative", "おしゃべりな", "child adult old"),
    ("shy", "恥ずかしがり屋だ", "child adult"),
    ("happy", "幸せな", "adult old"),
)
# Traits of which one says "was" without saying that someone is dead or grown up.
_CHANGING_TRAITS = tuple(
    row for row in _TRAITS if row[0] in ("kind", "strict", "funny", "busy", "happy", "shy", "cheerful")
)
# (English, Japanese verb said in 〜ている, ages)
_CONDITIONS: tuple[tuple[str, str, str], ...] = (
    ("tired", "疲れる/1", "child adult old"),
    ("angry", "怒る/5", "child adult old"),
    ("worried", "心配する", "adult old"),
    ("sleeping", "寝る/1", "child adult old"),
    ("smiling", "笑う", "child adult old"),
    ("crying", "泣く", "child"),
    ("nervous", "緊張する", "child adult"),
    ("surprised", "驚く", "child adult old"),
)
# (English with {} for the person, particle, verb, uses: past, habit, later, wish)
# What one does with people who live elsewhere.
_OVER_A_DISTANCE = ("visit {}", "invite {}", "write a letter to {}")
_AT_HOME = ("husband", "wife", "son", "daughter")
_DEALINGS: tuple[tuple[str, str, str, str], ...] = (
    ("meet {}", "に", "会う", "plw"),
    ("call {}", "に", "電話する", "phlw"),
    ("help {}", "を", "手伝う", "phlw"),
    ("visit {}", "を", "訪ねる/1", "phlw"),
    ("talk with {}", "と", "話す", "phlw"),
    ("write a letter to {}", "に手紙を", "書く", "phlw"),
    ("invite {}", "を", "招待する", "pw"),
    ("thank {}", "にお礼を", "言う", "p"),
    ("go shopping with {}", "と買い物に", "行く", "phlw"),
    ("take a walk with {}", "と", "散歩する", "phlw"),
)
# (English, particle, verb said in 〜ている)
_REGARDS: tuple[tuple[str, str, str], ...] = (
    ("respect {}", "を", "尊敬する"),
    ("trust {}", "を", "信頼する"),
    ("live with {}", "と", "暮らす"),
    ("know {} well", "をよく", "知る/5"),
)
_COUNTED_RELATIVES = (
    *(f"{age} {word}" for age in ("older", "younger") for word in ("brother", "sister")),
    *("uncle", "aunt", "cousin"),
)
_NUMBER_WORDS: dict[int, tuple[str, str]] = {
    3: ("three", "三"), 4: ("four", "四"), 5: ("five", "五"), 6: ("six", "六"), 7: ("seven", "七"), 8: ("eight", "八"),
    9: ("nine", "九"), 10: ("ten", "十"), 12: ("twelve", "十二"), 15: ("fifteen", "十五"), 30: ("thirty", "三十"),
    40: ("forty", "四十"), 50: ("fifty", "五十"), 60: ("sixty", "六十"), 70: ("seventy", "七十"),
    80: ("eighty", "八十"), 90: ("ninety", "九十"),
}  # fmt: skip
_AGES = {"child": (3, 4, 5, 6, 7, 8, 9, 10, 12, 15), "adult": (30, 40, 50), "old": (60, 70, 80, 90)}


def _trait(japanese: str, form: Form) -> Predicate:
    negative, past = "negative" in form, "past" in form
    if japanese.endswith(("な", "だ")):
        return copula(japanese[:-1], negative=negative, past=past)
    return i_adjective(japanese, negative=negative, past=past)


def _choose_relative(random: Random, form: Form, relatives: Sequence[Relative]) -> tuple[Relative, Subject]:
    """Returns a relative and whose: the speaker's, the listener's in a question, or now and then a named one's."""
    relative = pick(random, relatives)
    owners = [name for name in NAMES if _can_have(name, relative)]
    if random.random() < 0.35:
        return relative, relative.of(pick(random, owners))
    return relative, relative.yours if is_question(form) else relative.mine


def _choose_trait(random: Random, form: Form) -> Slots:
    traits = _CHANGING_TRAITS if form == "past" else _TRAITS
    english, japanese, ages = pick(random, traits)
    fitting = [relative for relative in RELATIVES if relative.age in ages.split()]
    relative, subject = _choose_relative(random, form, fitting)
    return Slots(subject, extra=(english, japanese), keys=(relative.key, f"trait:{english}"), label="people")


def _render_trait(slots: Slots, form: Form) -> Rendered:
    subject = _subject(slots)
    english, japanese = slots.extra
    predicate = _trait(japanese, form)
    patterns = japanese_patterns(subject.topic(), NOTHING, [], predicate, question=is_question(form))
    return finish(slots, form, [*be_clause(subject, form), english], patterns)


def _render_very_trait(slots: Slots, form: Form) -> Rendered:
    subject = _subject(slots)
    english, japanese = slots.extra
    predicate = _trait(japanese, form)
    patterns = japanese_patterns(subject.topic(), NOTHING, [("とても", "すごく")], predicate)
    return finish(slots, form, [*be_clause(subject, form), "very", english], patterns)


def _choose_very_trait(random: Random, form: Form) -> Slots:
    slots = _choose_trait(random, form)
    while slots.extra[1].endswith("だ"):
        slots = _choose_trait(random, form)
    return slots


def _choose_condition(random: Random, form: Form) -> Slots:
    english, japanese, ages = pick(random, _CONDITIONS)
    fitting = [relative for relative in RELATIVES if relative.age in ages.split()]
    relative, subject = _choose_relative(random, form, fitting)
    return Slots(subject, extra=(english, verb(japanese)), keys=(relative.key, f"condition:{english}"), label="people")


def _render_condition(slots: Slots, form: Form) -> Rendered:
    subject = _subject(slots)
    english, japanese = slots.extra
    predicate = simple(te_iru(japanese), form)
    patterns = japanese_patterns(subject.topic(), NOTHING, [], predicate, question=is_question(form))
    return finish(slots, form, [*be_clause(subject, form), english], patterns)


def _choose_age(random: Random, form: Form) -> Slots:
    relative, subject = _choose_relative(random, form, [one for one in RELATIVES if not one.is_plural])
    age = pick(random, _AGES[relative.age])
    return Slots(subject, extra=age, keys=(relative.key,), label="people")


def _render_age(slots: Slots, form: Form) -> Rendered:
    subject = _subject(slots)
    if is_question(form):
        ages = ("何歳", "おいくつ", "いくつ")
        asked = Predicate(tuple(f"{age}です" for age in ages), tuple(f"{age}だ" for age in ages), ages, ages[0])
        patterns = japanese_patterns(subject.topic(), NOTHING, [], asked, question=True)
        return finish(slots, form, ["how old", subject.be(), subject.english], patterns)
    number, japanese = _NUMBER_WORDS[slots.extra]
    patterns = japanese_patterns(subject.topic(), NOTHING, [], copula(f"{japanese}歳"))
    return finish(slots, form, [subject.english, subject.be(), (f"{number} years old", number)], patterns)


def _subject(slots: Slots) -> Subject:
    assert slots.subject is not None
    return slots.subject


_RESEMBLING = ("older brother", "older sister", "younger brother", "younger sister", "mother", "father")
_RESEMBLED = ("father", "mother", "grandfather", "grandmother")


def _choose_likeness(random: Random, form: Form) -> Slots:
    model = pick(random, [relative for relative in RELATIVES if relative.english in _RESEMBLED])
    relative = pick(random, [one for one in RELATIVES if one.english in _RESEMBLING and one != model])
    subject = relative.yours if is_question(form) else relative.mine
    return Slots(subject, extra=model, keys=(relative.key, model.key), label="people")


def _render_likeness(slots: Slots, form: Form) -> Rendered:
    subject, model = _subject(slots), slots.extra
    asks = is_question(form)
    thing = f"{'your' if asks else 'my'} {model.english}"
    middle = [(model.respectful if asks else model.humble) + "に"]
    predicate = simple(te_iru(verb("似る/1")), form)
    patterns = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=asks)
    return finish(slots, form, do_clause(subject, f"look like {thing}", NOTHING, form), patterns)


def _family_of(subject: Subject, relative: Relative) -> tuple[str, Options]:
    """Returns the relative of whoever the sentence is about: ("my uncle", おじ), ("his uncle", おじさん)."""
    if subject.name == "i":
        return f"my {relative.english}", one(relative.humble)
    return f"{subject.possessive} {relative.english}", one(relative.respectful)


def _can_have(subject: Subject, relative: Relative) -> bool:
    """Whether the subject may be said to have such a relative: one husband for her, no "their wife"."""
    if relative.english in ("husband", "wife"):
        return subject.possessive in ("my", "your", "her" if relative.english == "husband" else "his")
    return not (relative.english == "friend" and subject.name == "they")


def _choose_related(random: Random, form: Form, relatives: Sequence[Relative]) -> tuple[Subject, Relative]:
    """Returns someone and a relative of theirs; "we" has none, since it would be left open whose."""
    while True:
        subject, relative = choose_subject(random, form), pick(random, relatives)
        if subject.name != "we" and _can_have(subject, relative):
            return subject, relative


def _choose_dealing(use: str, times: Sequence[Time] = ()) -> Callable[[Random, Form], Slots]:
    dealings = [row for row in _DEALINGS if use in row[3]]
    fitting = [time for time in times if time.suits(("day",))]

    def choose(random: Random, form: Form) -> Slots:
        subject, relative = _choose_related(random, form, RELATIVES)
        dealing = pick(random, dealings)
        while dealing[0] in _OVER_A_DISTANCE and relative.english in _AT_HOME:
            dealing = pick(random, dealings)
        keys = (relative.key, f"verb:{dealing[0].removesuffix(' {}')}")
        extra = (dealing, relative, pick(random, fitting) if fitting else None)
        return Slots(subject, extra=extra, keys=keys, label="people")

    return choose


def _dealing(slots: Slots) -> tuple[Subject, str, Options, str, Verb, Time]:
    subject = _subject(slots)
    (english, particle, japanese, _), relative, time = slots.extra
    phrase, names = _family_of(subject, relative)
    return subject, english.replace("{}", phrase), names, particle, verb(japanese), time


def _render_met(slots: Slots, form: Form) -> Rendered:
    subject, english, names, particle, japanese, time = _dealing(slots)
    clause = [*do_clause(subject, english, NOTHING, form), time.english]
    middle = [tuple(name + particle for name in names)]
    predicate = simple(japanese, form)
    patterns = japanese_patterns(subject.topic(), time.written, middle, predicate, question=is_question(form))
    return finish(slots, form, clause, patterns)


def _render_meets(slots: Slots, form: Form) -> Rendered:
    subject, english, names, particle, japanese, time = _dealing(slots)
    clause = [*do_clause(subject, english, NOTHING, form), time.english]
    middle = [tuple(name + particle for name in names)]
    predicate = simple(japanese, form)
    patterns = japanese_patterns(subject.topic(), one(time.japanese), middle, predicate, question=is_question(form))
    return finish(slots, form, clause, patterns)


def _render_will_meet(slots: Slots, form: Form) -> Rendered:
    subject, english, names, particle, japanese, time = _dealing(slots)
    clause = [*modal_clause(subject, "will", english, NOTHING, form), time.english]
    middle = [tuple(name + particle for name in names)]
    predicate = simple(japanese, form)
    patterns = japanese_patterns(subject.topic(), time.written, middle, predicate, question=is_question(form))
    return finish(slots, form, clause, patterns)


def _render_wish_to_meet(slots: Slots, form: Form) -> Rendered:
    subject, english, names, particle, japanese, _ = _dealing(slots)
    clause = do_clause(subject, f"want to {english}", NOTHING, form)
    middle = [tuple(name + particle for name in names)]
    predicate = wish(japanese, subject, form)
    patterns = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, clause, patterns)


_ACQUAINTANCES = ("neighbor", "friend", "cousin", "uncle", "aunt")


def _regarded(regard: str) -> list[Relative]:
    """Returns whom one respects, lives with, or knows well (the nearest family one knows anyway)."""
    if regard.startswith("know"):
        return [relative for relative in RELATIVES if relative.english in _ACQUAINTANCES]
    if regard.startswith("live"):
        return [relative for relative in RELATIVES if relative.english not in ("neighbor", "friend")]
    return [relative for relative in RELATIVES if relative.age != "child"]


def _choose_regard(random: Random, form: Form) -> Slots:
    regard = pick(random, _REGARDS)
    subject, relative = _choose_related(random, form, _regarded(regard[0]))
    keys = (relative.key, f"verb:{regard[0].replace(' {}', '')}")
    return Slots(subject, extra=(regard, relative), keys=keys, label="people")


def _render_regard(slots: Slots, form: Form) -> Rendered:
    subject = _subject(slots)
    (english, particle, japanese), relative = slots.extra
    phrase, names = _family_of(subject, relative)
    clause = do_clause(subject, english.replace("{}", phrase), NOTHING, form)
    middle = [tuple(name + particle for name in names)]
    predicate = simple(te_iru(verb(japanese)), form)
    patterns = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, clause, patterns)


def _choose_siblings(random: Random, form: Form) -> Slots:
    relative = pick(random, [one for one in RELATIVES if one.english in (*_COUNTED_RELATIVES, "son", "daughter")])
    owner = YOU if is_question(form) else pick(random, (I, I, *PRONOUNS[:2], *NAMES))
    number = 2 + int(random.random() * 3)
    return Slots(owner, extra=(relative, number), keys=(relative.key,), label="people")


def _render_siblings(slots: Slots, form: Form) -> Rendered:
    owner = _subject(slots)
    relative, number = slots.extra
    iru = Verb("いる", "ichidan")
    name = relative.humble if owner.name == "i" else relative.respectful
    to = tuple(f"{owner_name}には" if owner_name else "" for owner_name in owner.japanese)
    if is_question(form):
        article = en.with_article(relative.english)
        middle: list[str | Options] = [(name + "は", name + "が")]
        patterns = japanese_patterns(to, NOTHING, middle, simple(iru, form), question=True)
        return finish(slots, form, do_clause(owner, "have {}", (article, en.plural(relative.english)), form), patterns)
    english, japanese = count_words(number, "人")
    clause = do_clause(owner, f"have {english} {en.plural(relative.english)}", NOTHING, form)
    patterns = japanese_patterns(to, NOTHING, [name + "が", japanese], simple(iru, form))
    return finish(slots, form, clause, patterns)


_OCCUPATIONS = nouns_of("occupation")


def _choose_occupation(random: Random, form: Form) -> Slots:
    subject = choose_subject(random, form)
    while subject.name in ("we", "they"):
        subject = choose_subject(random, form)
    return Slots(subject, noun=pick(random, _OCCUPATIONS), extra=pick(random, _LONG_AGO))


def _occupation(slots: Slots) -> tuple[Subject, Noun, Options]:
    assert slots.noun is not None
    return _subject(slots), slots.noun, one(en.with_article(slots.noun.english))


def _render_occupation(slots: Slots, form: Form) -> Rendered:
    subject, noun, phrase = _occupation(slots)
    predicate = copula(noun.japanese, negative="negative" in form, past="past" in form, attributive="の")
    patterns = japanese_patterns(subject.topic(), NOTHING, [], predicate, question=is_question(form))
    return finish(slots, form, [*be_clause(subject, form), phrase], patterns)


def _render_ambition(slots: Slots, form: Form) -> Rendered:
    subject, noun, phrase = _occupation(slots)
    english = do_clause(subject, "want to become {}", phrase, form)
    predicate = wish(Verb("なる", "godan"), subject, form)
    patterns = japanese_patterns(
        subject.topic(), NOTHING, [noun.japanese + "に"], predicate, question=is_question(form)
    )
    return finish(slots, form, english, patterns)


def _render_became(slots: Slots, form: Form) -> Rendered:
    subject, noun, phrase = _occupation(slots)
    time = slots.extra
    english = [*do_clause(subject, "become {}", phrase, form), time.english]
    predicate = simple(Verb("なる", "godan"), form)
    middle = [noun.japanese + "に"]
    patterns = japanese_patterns(subject.topic(), time.written, middle, predicate, question=is_question(form))
    return finish(slots, form, english, patterns)


def _render_works_as(slots: Slots, form: Form) -> Rendered:
    subject, noun, phrase = _occupation(slots)
    english = do_clause(subject, "work as {}", phrase, form)
    predicate = simple(te_iru(verb("働く")), form)
    middle = [noun.japanese + "として"]
    patterns = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, patterns)


_WORKPLACES = nouns_of("employer")


def _choose_workplace(random: Random, form: Form) -> Slots:
    return Slots(choose_subject(random, form), noun=pick(random, _WORKPLACES))


def _render_works_at(slots: Slots, form: Form) -> Rendered:
    subject, noun = _subject(slots), slots.noun
    assert noun is not None
    english = do_clause(subject, "work at {}", (en.with_article(noun.english), f"the {noun.english}"), form)
    predicate = simple(te_iru(verb("働く")), form)
    middle = [noun.japanese + "で"]
    patterns = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, patterns)


_LONG_AGO = tuple(time for time in PAST_TIMES if time.kind == "long")
_STATES: tuple[Form, ...] = ("present", "negative", "question")
_PASTS: tuple[Form, ...] = ("past", "past negative", "past question")

PEOPLE_FRAMES: tuple[Frame, ...] = (
    Frame("trait", (*_STATES, "past"), _choose_trait, _render_trait, 2.0),
    Frame("strong trait", ("present", "past"), _choose_very_trait, _render_very_trait),
    Frame("condition", (*_STATES, "past"), _choose_condition, _render_condition),
    Frame("age", ("present", "question"), _choose_age, _render_age, 0.8),
    Frame("likeness", _STATES, _choose_likeness, _render_likeness, 0.5),
    Frame("dealing", _PASTS, _choose_dealing("p", PAST_TIMES), _render_met, 2.0),
    Frame("dealing often", ("present", "question"), _choose_dealing("h", HABIT_TIMES), _render_meets),
    Frame("dealing later", _STATES, _choose_dealing("l", FUTURE_TIMES), _render_will_meet, 1.2),
    Frame("wish to deal", (*_STATES, "past"), _choose_dealing("w"), _render_wish_to_meet, 1.2),
    Frame("regard", _STATES, _choose_regard, _render_regard),
    Frame("relatives", ("present", "question"), _choose_siblings, _render_siblings, 0.6),
    Frame("occupation", (*_STATES, "past"), _choose_occupation, _render_occupation),
    Frame("ambition", (*_STATES, "past"), _choose_occupation, _render_ambition),
    Frame("new occupation", ("past", "past question"), _choose_occupation, _render_became, 0.8),
    Frame("working as", _STATES, _choose_occupation, _render_works_as, 0.8),
    Frame("working at", _STATES, _choose_workplace, _render_works_at, 0.2),
)
