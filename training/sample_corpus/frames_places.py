"""Frames about places and times of day: what is where, going, living, timetables, the way."""

from collections.abc import Callable, Sequence
from random import Random

from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.adjuncts import FUTURE_TIMES, HABIT_TIMES, PAST_TIMES, Time, count_words
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
from kakehashi.training.sample_corpus.nouns import NOUNS, Noun, nouns_of
from kakehashi.training.sample_corpus.render import (
    Options,
    Rendered,
    definite,
    is_or_are,
    japanese_patterns,
    negated,
    one,
)

_IRU, _ARU, _IKU = Verb("いる", "ichidan"), Verb("ある", "godan"), Verb("行く", "godan")
_LIVING = frozenset({"animals", "people"})

# (classes or nouns of the things, place in English, place in Japanese); parks and gardens belong to no topic.
_SETTINGS: tuple[tuple[str, str, str], ...] = (
    ("garden animal", "in the garden", "庭"),
    ("park animal", "in the park", "公園"),
    ("park animal", "under the bench", "ベンチの下"),
    ("wild animal", "at the zoo", "動物園"),
    ("aquarium animal", "at the aquarium", "水族館"),
    ("livestock", "on the farm", "牧場"),
    ("kitchen thing", "in the kitchen", "台所"),
    ("bedroom thing", "in the bedroom", "寝室"),
    ("living room thing", "in the living room", "居間"),
    ("tableware", "on the table", "テーブルの上"),
    ("desk thing", "on the desk", "机の上"),
    ("tree only", "in the garden", "庭"),
    ("tree only", "in the park", "公園"),
    ("office thing", "in the office", "会社"),
    ("fridge food", "in the basket", "かごの中"),
)


def _exists(noun: Noun) -> Verb:
    """Returns いる for what lives and moves, ある for anything else."""
    return _IRU if noun.topic in _LIVING or "classmate" in noun.classes else _ARU


# People come in numbers: "There isn't a student" is not how one says that nobody is there.
_CROWDS: tuple[tuple[str, str, str], ...] = (
    ("garden plant", "in the garden", "庭"),
    ("garden plant", "in the park", "公園"),
    ("student only", "in the classroom", "教室"),
    ("student only", "in the library", "図書館"),
    ("student only", "in the cafeteria", "食堂"),
)


def _choose_number_there(random: Random, form: Form) -> Slots:
    return _choose_setting(random, form, (*_SETTINGS, *_CROWDS))


def _choose_setting(random: Random, form: Form, settings: Sequence[tuple[str, str, str]] = _SETTINGS) -> Slots:
    classes, place, japanese_place = pick(random, settings)
    number = 2 + int(random.random() * 4)
    return Slots(noun=pick(random, nouns_of(classes)), extra=(place, japanese_place, number))


def _render_existence(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    place, japanese_place, _ = slots.extra
    be = "was" if form.startswith("past") else "is"
    thing = en.with_article(noun.english)
    english: list[str | Options]
    english = (
        [be, "there", thing] if is_question(form) else ["there", negated(be) if form == "negative" else be, thing]
    )
    particles = ("は", "が") if form == "negative" else ("が", "は") if is_question(form) else ("が",)
    middle = [japanese_place + "に", tuple(noun.japanese + particle for particle in particles)]
    predicate = simple(_exists(noun), form)
    japanese = japanese_patterns(NOTHING, NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, [*english, place], japanese)


def _render_number_there(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    place, japanese_place, number = slots.extra
    word, japanese_number = count_words(number, noun.counter)
    be = "were" if form.startswith("past") else "are"
    english = ["there", be, f"{word} {en.plural(noun.english)}", place]
    middle = [japanese_place + "に", noun.japanese + "が", japanese_number]
    return finish(slots, form, english, japanese_patterns(NOTHING, NOTHING, middle, simple(_exists(noun), form)))


_NEARBY = nouns_of(
    "town place", "eating place", "food shop", "health place", "clothing shop", "animal place", "nearby nature"
)


def _choose_nearby(random: Random, form: Form) -> Slots:
    return Slots(noun=pick(random, _NEARBY))


def _render_nearby(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    thing = en.with_article(noun.english)
    english: list[str | Options]
    english = (
        ["is there", thing] if is_question(form) else ["there", negated("is") if form == "negative" else "is", thing]
    )
    particles = ("は", "が") if form == "negative" else ("が", "は") if is_question(form) else ("が",)
    middle = ["この近くに", tuple(noun.japanese + particle for particle in particles)]
    japanese = japanese_patterns(NOTHING, NOTHING, middle, simple(_ARU, form), question=is_question(form))
    return finish(slots, form, [*english, "near here"], japanese)


def _render_where(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    where = Predicate(("どこです", "どこにあります"), ("どこだ", "どこにある"), ("どこ", "どこにある"), "どこ")
    japanese = japanese_patterns((noun.japanese + "は",), NOTHING, [], where, question=True)
    return finish(slots, form, ["where is", f"the {noun.english}"], japanese)


def _render_the_way(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    how = i_adjective("いい").after("行けば")
    middle = [(noun.japanese + "へは", noun.japanese + "には"), ("どう", "どうやって")]
    japanese = japanese_patterns(NOTHING, NOTHING, middle, how, question=True)
    return finish(slots, form, [("how do I get to", "how can I get to"), f"the {noun.english}"], japanese)


_POSITIONS = (("on", "上"), ("under", "下"), ("next to", "隣"), ("in front of", "前"), ("behind", "後ろ"))
_PLACED = nouns_of("tableware", "placed thing")
_BEARING = nouns_of("furniture")


def _choose_position(random: Random, form: Form) -> Slots:
    noun, second = pick(random, _PLACED), pick(random, _BEARING)
    positions = _POSITIONS[:1] if "tableware" in noun.classes else _POSITIONS
    if "tableware" in noun.classes:
        second = NOUNS["table"]
    return Slots(noun=noun, second=second, extra=pick(random, positions))


def _render_position(slots: Slots, form: Form) -> Rendered:
    noun, second = slots.noun, slots.second
    assert noun is not None and second is not None
    preposition, position = slots.extra
    be = is_or_are(noun)
    english: list[str | Options]
    thing = f"the {noun.english}"
    english = [be, thing] if is_question(form) else [thing, negated(be) if form == "negative" else be]
    middle = [f"{second.japanese}の{position}に"]
    japanese = japanese_patterns(
        (noun.japanese + "は",), NOTHING, middle, simple(_ARU, form), question=is_question(form)
    )
    return finish(slots, form, [*english, preposition, f"the {second.english}"], japanese)


_GOALS = nouns_of(
    "station to station",
    "city",
    "country",
    "animal place",
    "eating place",
    "food shop",
    "health place",
    "clothing shop",
    "goal",
)
_ABROAD = nouns_of("city", "country")


def _place(noun: Noun) -> Options:
    """Returns "Kyoto", "the station", "a restaurant"."""
    if noun.kind == "count":
        return (en.with_article(noun.english), f"the {noun.english}")
    return definite(noun)


def _choose_going(times: Sequence[Time]) -> Callable[[Random, Form], Slots]:
    def choose(random: Random, form: Form) -> Slots:
        noun = pick(random, _GOALS)
        kinds = ("long", "day") if noun in _ABROAD else ("day",)
        return Slots(choose_subject(random, form), noun=noun, extra=pick(random, [t for t in times if t.suits(kinds)]))

    return choose


def _choose_going_often(random: Random, form: Form) -> Slots:
    """Chooses where one goes every year, every week or every day: abroad, to the zoo, to the library."""
    time = pick(random, HABIT_TIMES)
    if time.kind == "long":
        nouns = _ABROAD
    else:
        nouns = nouns_of("weekly goal" if time.kind == "day" else "daily goal")
    return Slots(choose_subject(random, form), noun=pick(random, nouns), extra=time)


def _parts(slots: Slots) -> tuple[Subject, Noun]:
    assert slots.subject is not None and slots.noun is not None
    return slots.subject, slots.noun


def _to(noun: Noun) -> Options:
    return (noun.japanese + "に", noun.japanese + "へ")


def _render_going(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    english = [*do_clause(subject, "go to {}", _place(noun), form), slots.extra.english]
    time = one(slots.extra.japanese) if slots.extra in HABIT_TIMES else slots.extra.written
    predicate = simple(_IKU, form)
    japanese = japanese_patterns(subject.topic(), time, [_to(noun)], predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_going_later(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    english = [*modal_clause(subject, "will", "go to {}", _place(noun), form), slots.extra.english]
    predicate = simple(_IKU, form)
    japanese = japanese_patterns(
        subject.topic(), slots.extra.written, [_to(noun)], predicate, question=is_question(form)
    )
    return finish(slots, form, english, japanese)


def _choose_goal(random: Random, form: Form) -> Slots:
    return Slots(choose_subject(random, form), noun=pick(random, _GOALS))


def _choose_visited(random: Random, form: Form) -> Slots:
    return Slots(choose_subject(random, form), noun=pick(random, _VISITED))


def _render_wish_to_go(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    english = do_clause(subject, "want to go to {}", _place(noun), form)
    predicate = wish(_IKU, subject, form)
    japanese = japanese_patterns(subject.topic(), NOTHING, [_to(noun)], predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_been(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    have = "has" if subject.person == "third" else "have"
    english: list[str | Options]
    if is_question(form):
        english = [have, subject.english, "ever been to", _place(noun)]
    elif form == "negative":
        english = [subject.english, have, "never been to", _place(noun)]
    else:
        english = [subject.english, have, "been to", _place(noun)]
    middle = [(noun.japanese + "に", noun.japanese + "へ"), "行ったことが"]
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, simple(_ARU, form), question=is_question(form))
    return finish(slots, form, english, japanese)


def _choose_ride(random: Random, form: Form) -> Slots:
    vehicle, noun = pick(random, nouns_of("town transport")), pick(random, nouns_of("station to station", "city"))
    if vehicle.english in ("bicycle", "motorcycle", "taxi") and "city" in noun.classes:
        vehicle = NOUNS["train"] if random.random() < 0.5 else NOUNS["bus"]
    if "abroad" in noun.classes:
        vehicle = NOUNS["plane"]
    time = pick(random, _DAYS)
    return Slots(choose_subject(random, form), noun=noun, second=vehicle, extra=time)


def _render_ride(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    vehicle = slots.second
    assert vehicle is not None
    place = tuple(f"{place} by {vehicle.english}" for place in _place(noun))
    english = [*do_clause(subject, "go to {}", place, form), slots.extra.english]
    middle = [vehicle.japanese + "で", _to(noun)]
    predicate = simple(_IKU, form)
    japanese = japanese_patterns(subject.topic(), slots.extra.written, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _choose_home(random: Random, form: Form) -> Slots:
    return Slots(choose_subject(random, form), noun=pick(random, _ABROAD))


def _render_home(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    english = do_clause(subject, "live in {}", one(noun.english), form)
    predicate = simple(te_iru(verb("住む")), form)
    middle = [noun.japanese + "に"]
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_origin(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    english = [*be_clause(subject, form), "from", noun.english]
    predicate = copula(noun.japanese + "出身", negative=form == "negative")
    japanese = japanese_patterns(subject.topic(), NOTHING, [], predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


_HOURS: tuple[tuple[str, str], ...] = (
    ("one", "一"), ("two", "二"), ("three", "三"), ("four", "四"), ("five", "五"), ("six", "六"), ("seven", "七"),
    ("eight", "八"), ("nine", "九"), ("ten", "十"), ("eleven", "十一"), ("twelve", "十二"),
)  # fmt: skip
# (classes, verb in English, particle + verb in Japanese)
_TIMETABLES: tuple[tuple[str, str, str], ...] = (
    ("starting", "start", "始まる/5"),
    ("starting", "end", "終わる/5"),
    ("opening hours", "open", "開く"),
    ("opening hours", "close", "閉まる/5"),
    ("timetabled", "leave", "出る/1"),
    ("timetabled", "arrive", "着く"),
)


def _choose_timetable(random: Random, form: Form) -> Slots:
    classes, english, japanese = pick(random, _TIMETABLES)
    noun = pick(random, nouns_of(classes))
    hours = {"open": _HOURS[6:11], "close": _HOURS[4:9]}.get(english, _HOURS)
    return Slots(
        noun=noun,
        extra=(english, verb(japanese), pick(random, hours), random.random() < 0.3),
        keys=(f"verb:{english}",),
    )


def _render_timetable(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    english_verb, japanese_verb, (hour, japanese_hour), is_half = slots.extra
    thing = Subject("thing", f"the {noun.english}", "its", "third", (noun.japanese,))
    predicate = simple(japanese_verb, form)
    if is_question(form):
        asking = Slots(noun=noun, keys=slots.keys)
        did = "did" if form.startswith("past") else "does"
        japanese = japanese_patterns(thing.topic(), NOTHING, ["何時に"], predicate, question=True)
        return finish(asking, form, ["what time", did, thing.english, english_verb], japanese)
    clause = do_clause(thing, english_verb, NOTHING, form)
    hours = (f"half past {hour}", f"{hour} thirty") if is_half else (f"{hour} o'clock", hour)
    half = "半" if is_half else ""
    middle = [f"{japanese_hour}時{half}に"]
    japanese = japanese_patterns(thing.topic(), NOTHING, middle, predicate)
    return finish(slots, form, [*clause, "at", hours], japanese)


_MINUTES = (
    ("five", "五"),
    ("ten", "十"),
    ("fifteen", "十五"),
    ("twenty", "二十"),
    ("thirty", "三十"),
    ("forty", "四十"),
)


def _choose_way(random: Random, form: Form) -> Slots:
    noun, second = random.sample(nouns_of("station to station"), 2)
    return Slots(noun=noun, second=second, extra=(pick(random, _MINUTES), pick(random, nouns_of("road transport"))))


def _render_way(slots: Slots, form: Form) -> Rendered:
    noun, second = slots.noun, slots.second
    assert noun is not None and second is not None
    (minutes, japanese_minutes), vehicle = slots.extra
    route = f"from the {noun.english} to the {second.english} by {vehicle.english}"
    start = [f"{noun.japanese}から{second.japanese}まで", vehicle.japanese + "で"]
    takes = Verb("かかる", "godan").present()
    whole = Slots(noun=noun, second=second, extra=slots.extra, keys=(vehicle.key,))
    if is_question(form):
        japanese = japanese_patterns(NOTHING, NOTHING, [*start, ("どのくらい", "どれくらい")], takes, question=True)
        return finish(whole, form, ["how long does it take", route], japanese)
    japanese = japanese_patterns(NOTHING, NOTHING, [*start, japanese_minutes + "分"], takes)
    return finish(whole, form, ["it takes", minutes, "minutes", route], japanese)


_VISITED = nouns_of("been to")
_DAYS = tuple(time for time in PAST_TIMES if time.suits(("day",)))
_STATES: tuple[Form, ...] = ("present", "negative", "question")
_TOWN = nouns_of("town place", "health place", "town goal")

PLACE_FRAMES: tuple[Frame, ...] = (
    Frame("existence", (*_STATES, "past"), _choose_setting, _render_existence, 1.2),
    Frame("number there", ("present", "past"), _choose_number_there, _render_number_there, may_hold_out=False),
    Frame("near here", _STATES, _choose_nearby, _render_nearby, 0.3),
    Frame("where", ("question",), lambda random, form: Slots(noun=pick(random, _TOWN)), _render_where, 0.1),
    Frame("the way", ("question",), lambda random, form: Slots(noun=pick(random, _TOWN)), _render_the_way, 0.1),
    Frame("position", _STATES, _choose_position, _render_position, 0.8),
    Frame("going", ("past", "past negative", "past question"), _choose_going(PAST_TIMES), _render_going, 1.5),
    Frame("going often", ("present", "question", "past"), _choose_going_often, _render_going),
    Frame("going later", _STATES, _choose_going(FUTURE_TIMES), _render_going_later, 1.2),
    Frame("wish to go", (*_STATES, "past"), _choose_goal, _render_wish_to_go),
    Frame("having been", _STATES, _choose_visited, _render_been),
    Frame("ride", ("past", "past question"), _choose_ride, _render_ride),
    Frame("living", (*_STATES, "past"), _choose_home, _render_home, 0.8),
    Frame("origin", _STATES, _choose_home, _render_origin, 0.8),
    Frame("timetable", ("present", "question", "past", "past question"), _choose_timetable, _render_timetable, 0.8),
    Frame("duration", ("present", "question"), _choose_way, _render_way, 0.5),
)
