"""Frames about the weather, seasons, general truths on animals and vehicles, and illness."""

from random import Random

from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.adjectives import ADJECTIVES
from kakehashi.training.sample_corpus.adjuncts import PAST_TIMES, YOU, I, Time
from kakehashi.training.sample_corpus.clauses import NOTHING, be_clause, do_clause, finish, is_question, simple
from kakehashi.training.sample_corpus.english import Subject
from kakehashi.training.sample_corpus.frame import Form, Frame, Slots, choose_subject, pick
from kakehashi.training.sample_corpus.japanese import Predicate, Verb, copula, i_adjective, te_iru, verb
from kakehashi.training.sample_corpus.nouns import NOUNS, nouns_of
from kakehashi.training.sample_corpus.render import Options, Rendered, japanese_patterns, negated, one

# (English, Japanese; だ marks a noun)
_WEATHER: tuple[tuple[str, str], ...] = (
    ("hot", "暑い"),
    ("cold", "寒い"),
    ("warm", "暖かい"),
    ("cool", "涼しい"),
    ("humid", "蒸し暑い"),
    ("windy", "風が強い"),
    ("sunny", "晴れだ"),
    ("cloudy", "曇りだ"),
    ("rainy", "雨だ"),
)
_NOW: tuple[Time, ...] = (
    Time("today", "今日は", "day"),
    Time("this morning", "今朝は", "part"),
    Time("tonight", "今夜は", "part"),
)
_THEN: tuple[Time, ...] = (
    Time("yesterday", "昨日は", "day"),
    Time("last night", "昨夜は", "part"),
    Time("the day before yesterday", "おとといは", "day"),
    Time("last Sunday", "先週の日曜日は", "day"),
    Time("last Saturday", "先週の土曜日は", "day"),
    Time("last week", "先週は", "long"),
)


def _weather(japanese: str, form: Form) -> Predicate:
    negative, past = "negative" in form, "past" in form
    if japanese.endswith("だ"):
        return copula(japanese[:-1], negative=negative, past=past)
    return i_adjective(japanese, negative=negative, past=past)


def _choose_weather(random: Random, form: Form) -> Slots:
    word = pick(random, _WEATHER)
    time = pick(random, _THEN if form.startswith("past") else _NOW)
    if word[0] == "sunny" and time.english in ("tonight", "last night"):
        time = _THEN[0] if form.startswith("past") else _NOW[0]
    degree = pick(random, _DEGREES) if form in ("present", "past") and not word[1].endswith("だ") else _DEGREES[0]
    return Slots(extra=(word, time, degree), keys=(f"weather:{word[0]}",), label="nature")


# How much; nothing, or a word before the adjective.
_DEGREES: tuple[tuple[str, Options], ...] = (
    ("", ("",)),
    ("very", ("とても", "すごく")),
    ("a little", ("少し", "ちょっと")),
)


def _render_weather(slots: Slots, form: Form) -> Rendered:
    (word, japanese_word), time, (degree, japanese_degree) = slots.extra
    be = "was" if form.startswith("past") else "is"
    english: list[str | Options] = (
        [be, "it"] if is_question(form) else ["it", negated(be) if "negative" in form else be]
    )
    predicate = _weather(japanese_word, form)
    subject = (
        (time.japanese,) if is_question(form) or "negative" in form else (time.japanese, time.japanese[:-1] + "、")
    )
    japanese = japanese_patterns(subject, NOTHING, [japanese_degree], predicate, question=is_question(form))
    return finish(slots, form, [*english, degree, word, time.english], japanese)


_CLIMATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("spring", ("warm", "windy")),
    ("summer", ("hot", "humid")),
    ("autumn", ("cool",)),
    ("winter", ("cold", "windy")),
)


def _choose_climate(random: Random, form: Form) -> Slots:
    season, words = pick(random, _CLIMATES)
    name = pick(random, words)
    word = next(row for row in _WEATHER if row[0] == name)
    return Slots(noun=NOUNS[season], extra=word, keys=(f"weather:{name}",))


def _render_climate(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    word, japanese_word = slots.extra
    english: list[str | Options] = ["is it"] if is_question(form) else ["it is"]
    predicate = _weather(japanese_word, form)
    japanese = japanese_patterns((noun.japanese + "は",), NOTHING, [], predicate, question=is_question(form))
    return finish(slots, form, [*english, word, f"in {noun.english}"], japanese)


_FALLING: tuple[tuple[str, str], ...] = (("rain", "雨"), ("snow", "雪"))


def _choose_falling(random: Random, form: Form) -> Slots:
    row = pick(random, _FALLING)
    time = pick(random, [time for time in PAST_TIMES if time.kind != "long"])
    return Slots(extra=(*row, time), keys=(f"verb:{row[0]}",), label="nature")


def _render_fell(slots: Slots, form: Form) -> Rendered:
    english_verb, japanese_noun, time = slots.extra
    it = Subject("it", "it", "its", "third", ("",))
    english = [*do_clause(it, english_verb, NOTHING, form), time.english]
    predicate = simple(verb("降る/5"), form)
    particle = ("は", "が") if "negative" in form else ("が",)
    middle = [tuple(japanese_noun + mark for mark in particle)]
    japanese = japanese_patterns(NOTHING, time.written, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


# Animals in steps of size: only a difference of two steps or more is beyond dispute.
_SIZES: tuple[tuple[str, ...], ...] = (
    ("whale",),
    ("elephant",),
    ("horse", "cow", "bear", "giraffe"),
    ("lion", "tiger"),
    ("sheep", "goat"),
    ("dog", "monkey", "fox"),
    ("cat", "rabbit"),
    ("squirrel", "mouse", "frog"),
    ("butterfly",),
)
_SPEEDS: tuple[tuple[str, ...], ...] = (("plane",), (), ("train",), (), ("bicycle", "ship"))
_SPEEDS_ON_ROADS: tuple[tuple[str, ...], ...] = (("car", "motorcycle", "taxi"), (), ("bicycle",))
_SCALES = (
    (_SIZES, "big", "small"),
    (_SIZES, "big", "small"),
    (_SIZES, "big", "small"),
    (_SPEEDS, "fast", "slow"),
    (_SPEEDS_ON_ROADS, "fast", "slow"),
)


def _choose_truth(random: Random, form: Form) -> Slots:
    steps, more, less = pick(random, _SCALES)
    greater = int(random.random() * (len(steps) - 2))
    smaller = greater + 2 + int(random.random() * (len(steps) - greater - 2))
    if not steps[greater] or not steps[smaller]:
        return _choose_truth(random, form)
    first, second = NOUNS[pick(random, steps[greater])], NOUNS[pick(random, steps[smaller])]
    if random.random() < 0.4:
        return Slots(noun=second, second=first, adjective=ADJECTIVES[less])
    return Slots(noun=first, second=second, adjective=ADJECTIVES[more])


def _render_truth(slots: Slots, form: Form) -> Rendered:
    noun, second, adjective = slots.noun, slots.second, slots.adjective
    assert noun is not None and second is not None and adjective is not None
    english = ["are", en.plural(noun.english)] if is_question(form) else [en.plural(noun.english), "are"]
    than = f"{en.comparative(adjective.english)} than {en.plural(second.english)}"
    subject, middle = one(noun.japanese + "は"), [second.japanese + "より"]
    japanese = japanese_patterns(subject, NOTHING, middle, adjective.predicate(), question=is_question(form))
    return finish(slots, form, [*english, than], japanese)


_BLOOMS: dict[str, tuple[str, ...]] = {
    "spring": ("tulip", "rose", "flower"),
    "summer": ("sunflower", "lily", "flower"),
    "autumn": ("rose", "flower"),
}
_BLOOM_PLACES = (("in the garden", "庭に"), ("in the park", "公園に"), ("along the street", "道沿いに"))


def _choose_bloom(random: Random, form: Form) -> Slots:
    noun = pick(random, nouns_of("flower"))
    return Slots(noun=noun, extra=pick(random, _BLOOM_PLACES))


def _render_bloom(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    place, japanese_place = slots.extra
    flowers = Subject("flowers", en.plural(noun.english), "their", "plural", (noun.japanese,))
    english = [*be_clause(flowers, form), "blooming", place]
    middle = [japanese_place, noun.japanese + ("は" if "negative" in form else "が")]
    japanese = japanese_patterns(
        NOTHING, NOTHING, middle, simple(te_iru(verb("咲く")), form), question=is_question(form)
    )
    return finish(slots, form, english, japanese)


_PAINFUL = nouns_of("body part")
_PAINS: tuple[tuple[str, str, str], ...] = (
    ("", "", ""),
    ("", "a little", "少し"),
    ("", "a lot", "すごく"),
    ("still", "", "まだ"),
    ("often", "", "よく"),
    ("sometimes", "", "時々"),
)


def _choose_pain(random: Random, form: Form) -> Slots:
    noun = pick(random, _PAINFUL)
    time = pick(random, _DAYS) if form.startswith("past") else None
    pain = pick(random, _PAINS) if form == "present" else _PAINS[0]
    return Slots(YOU if is_question(form) else I, noun=noun, extra=(pain, time))


def _render_pain(slots: Slots, form: Form) -> Rendered:
    subject, noun = slots.subject, slots.noun
    assert subject is not None and noun is not None
    (before, after, japanese_degree), time = slots.extra
    part = Subject("part", f"{subject.possessive} {noun.english}", "its", "third", ("",))
    if form == "present":
        english: list[str | Options] = [part.english, before, "hurts", after]
    else:
        english = [*do_clause(part, "hurt", NOTHING, form), after, time.english if time else ""]
    predicate = i_adjective("痛い", negative="negative" in form, past="past" in form)
    # What comes and goes is a becoming in Japanese.
    if before in ("often", "sometimes"):
        predicate = Verb("痛くなる", "godan").present()
    particles = ("は", "が") if form == "negative" else ("が",)
    middle = [japanese_degree, tuple(noun.japanese + particle for particle in particles)]
    when = time.written if time else NOTHING
    # Whose pain it is goes without saying.
    japanese = japanese_patterns(
        tuple(sorted(subject.topic(), key=len)), when, middle, predicate, question=is_question(form)
    )
    return finish(slots, form, english, japanese)


# (noun, Japanese with particle, verb)
_AILMENTS: tuple[tuple[str, str, Verb], ...] = (
    ("cold", "風邪を", te_iru(verb("ひく"))),
    ("fever", "熱が", verb("ある/5")),
    ("cough", "咳が", te_iru(verb("出る/1"))),
    ("headache", "頭痛が", verb("する")),
    ("toothache", "歯痛が", verb("する")),
    ("stomachache", "腹痛が", verb("する")),
)


def _choose_ailment(random: Random, form: Form) -> Slots:
    row = pick(random, _AILMENTS)
    subject = choose_subject(random, form)
    while subject.name in ("we", "they"):
        subject = choose_subject(random, form)
    time = pick(random, _DAYS) if form.startswith("past") else None
    return Slots(subject, noun=NOUNS[row[0]], extra=(row, time))


def _render_ailment(slots: Slots, form: Form) -> Rendered:
    subject, noun = slots.subject, slots.noun
    assert subject is not None and noun is not None
    (_, part, state), time = slots.extra
    english = [
        *do_clause(subject, f"have {en.with_article(noun.english)}", NOTHING, form),
        time.english if time else "",
    ]
    predicate = simple(state, form)
    when = time.written if time else NOTHING
    japanese = japanese_patterns(subject.topic(), when, [part], predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


_DAYS = tuple(time for time in PAST_TIMES if time.suits(("day",)))
_STATES: tuple[Form, ...] = ("present", "negative", "question")
_PASTS: tuple[Form, ...] = ("past", "past negative", "past question")

CONDITION_FRAMES: tuple[Frame, ...] = (
    Frame("weather", _STATES, _choose_weather, _render_weather, 0.3),
    Frame("past weather", _PASTS, _choose_weather, _render_weather, 0.4),
    Frame("climate", ("present", "question"), _choose_climate, _render_climate, 0.03),
    Frame("rain and snow", _PASTS, _choose_falling, _render_fell, 0.2),
    Frame("general comparison", ("present", "question"), _choose_truth, _render_truth, 0.8),
    Frame("blooming", _STATES, _choose_bloom, _render_bloom, 0.15),
    Frame("pain", _STATES, _choose_pain, _render_pain, 0.5),
    Frame("past pain", ("past", "past question"), _choose_pain, _render_pain, 0.5),
    Frame("illness", ("present", "question"), _choose_ailment, _render_ailment, 0.6),
    Frame("past illness", ("past", "past question"), _choose_ailment, _render_ailment, 1.0),
)
