"""Frames about things: likes and wishes, qualities, comparison, existence, possession, numbers and prices."""

from collections.abc import Callable, Sequence
from random import Random

from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.adjuncts import NAMES, PAST_TIMES, PRONOUNS, YOU, I, count_words
from kakehashi.training.sample_corpus.clauses import NOTHING, do_clause, finish, is_question, simple, wants
from kakehashi.training.sample_corpus.english import Subject
from kakehashi.training.sample_corpus.frame import Form, Frame, Slots, choose_subject, pick
from kakehashi.training.sample_corpus.japanese import Predicate, Verb, copula, te_iru
from kakehashi.training.sample_corpus.nouns import Noun, nouns_of
from kakehashi.training.sample_corpus.render import (
    Options,
    Rendered,
    demonstrative,
    generic,
    is_or_are,
    japanese_patterns,
    negated,
    one,
    singular,
)

_LIKED = nouns_of(
    "animal",
    "edible",
    "drinkable",
    "studied",
    "sport",
    "martial art",
    "music",
    "reading",
    "show",
    "flower",
    "city",
    "season",
    "vehicle",
    "worn",
    "landscape",
    "pluck instrument",
)
_LIKED_BY_CHILDREN = nouns_of(
    "animal",
    "edible",
    "soft drink",
    "lesson",
    "sport",
    "martial art",
    "music",
    "reading",
    "show",
    "flower",
    "season",
    "vehicle",
)
_WANTED = nouns_of(
    "pet", "household goods", "clothes for sale", "vehicle", "personal machine", "stationery", "hobby thing", "reading"
)
_OWNED = nouns_of(
    "household goods", "clothes for sale", "vehicle", "personal machine", "stationery", "hobby thing", "reading"
)
_SMALL_OWNED = nouns_of(
    "carried", "stationery", "headwear", "footwear", "top", "outer", "travel thing", "tableware", "reading",
    "hobby thing", "eyewear", "accessory", "personal machine",
)  # fmt: skip


def _choose_among(nouns: Sequence[Noun]) -> Callable[[Random, Form], Slots]:
    return lambda random, form: Slots(choose_subject(random, form), noun=pick(random, nouns))


def _parts(slots: Slots) -> tuple[Subject, Noun]:
    assert slots.subject is not None and slots.noun is not None
    return slots.subject, slots.noun


def _feeling(verb: str, word: str) -> Callable[[Slots, Form], Rendered]:
    """Returns the rendering of "like" and "love": 〜が好きです, 〜が大好きです."""

    def render(slots: Slots, form: Form) -> Rendered:
        subject, noun = _parts(slots)
        english = do_clause(subject, f"{verb} {{}}", generic(noun), form)
        predicate = copula(word, negative=form.endswith("negative"), past=form.startswith("past"))
        middle = [one(noun.japanese + "が")]
        japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
        return finish(slots, form, english, japanese)

    return render


def _choose_child(random: Random, form: Form) -> Slots:
    return Slots(choose_subject(random, form), noun=pick(random, _LIKED_BY_CHILDREN))


def _render_as_child(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    children = "children" if subject.name in ("we", "they") else "a child"
    pronoun = subject.pronoun
    when = f"when {pronoun} {subject.be(past=True)} {children}"
    english = [*do_clause(subject, "like {}", generic(noun), form), when]
    predicate = copula("好き", past=True)
    time = ("子供の頃、", "子供の頃")
    japanese = japanese_patterns(subject.topic(), time, [noun.japanese + "が"], predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _choose_two(nouns_by_topic: dict[str, list[Noun]]) -> Callable[[Random, Form], Slots]:
    groups = [group for group in nouns_by_topic.values() if len(group) > 2]

    def choose(random: Random, form: Form) -> Slots:
        first, second = random.sample(pick(random, groups), 2)
        return Slots(choose_subject(random, form), noun=first, second=second)

    return choose


def _comparable_likes() -> dict[str, list[Noun]]:
    classes: tuple[str, ...] = (
        "pet",
        "wild animal",
        "fruit",
        "dish",
        "soft drink",
        "alcohol",
        "language",
        "subject",
        "sport",
        "season",
    )
    classes += ("named flower", "city", "music genre")
    return {name: list(nouns_of(name)) for name in classes}


def _render_preference(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    assert slots.second is not None
    first, second = generic(noun)[0], generic(slots.second)[0]
    english = do_clause(subject, "like {}", (f"{first} better than {second}", f"{first} more than {second}"), form)
    than = (f"{slots.second.japanese}より{noun.japanese}の方が", f"{noun.japanese}の方が{slots.second.japanese}より")
    japanese = japanese_patterns(subject.topic(), NOTHING, [than], copula("好き"), question=is_question(form))
    return finish(slots, form, english, japanese)


def _render_which(slots: Slots, form: Form) -> Rendered:
    _, noun = _parts(slots)
    assert slots.second is not None
    first, second = generic(noun)[0], generic(slots.second)[0]
    english: list[str | Options] = [
        (f"which do you like better, {first} or {second}", f"do you prefer {first} or {second}")
    ]
    asked = (f"{noun.japanese}と{slots.second.japanese}では、", f"{noun.japanese}と{slots.second.japanese}と")
    which = ("どちらの方が", "どちらが", "どっちが")
    japanese = japanese_patterns(NOTHING, NOTHING, [asked, which], copula("好き"), question=True)
    return finish(slots, "question", english, japanese)


# (kind in English, kind in Japanese, question word, classes)
_FAVORITES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("food", "食べ物", "何", ("dish",)),
    ("drink", "飲み物", "何", ("cup drink", "glass drink")),
    ("subject", "科目", "何", ("subject",)),
    ("language", "言語", "何", ("language",)),
    ("city", "都市", "どこ", ("city",)),
    ("country", "国", "どこ", ("country",)),
    ("season", "季節", "いつ", ("season",)),
    ("sport", "スポーツ", "何", ("team sport",)),
    ("animal", "動物", "何", ("favorite animal",)),
)


def _choose_favorite(random: Random, form: Form) -> Slots:
    kind, japanese_kind, asked, classes = pick(random, _FAVORITES)
    noun = pick(random, nouns_of(*classes))
    return Slots(choose_subject(random, form), noun=noun, extra=(kind, japanese_kind, asked))


def _render_favorite(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    kind, japanese_kind, asked = slots.extra
    owner = tuple((name + "の" if name else "") for name in subject.japanese)
    middle = [(f"一番好きな{japanese_kind}は", f"好きな{japanese_kind}は")]
    thing = f"{subject.owner} favorite {kind}"
    if is_question(form):
        asking = Slots(subject, extra=slots.extra, label=noun.topic)
        japanese = japanese_patterns(owner, NOTHING, middle, copula(asked), question=True)
        return finish(asking, form, ["what is", thing], japanese)
    # English names a kind of animal by "the": "My favorite animal is the dog."
    phrase = (f"the {noun.english}", *generic(noun)) if noun.kind == "count" else generic(noun)
    japanese = japanese_patterns(owner, NOTHING, middle, copula(noun.japanese))
    return finish(slots, form, [thing, "is", phrase], japanese)


def _render_want(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    english = do_clause(subject, "want {}", singular(noun), form)
    is_own = subject.is_first_person or subject.name == "you"
    middle = [noun.japanese + ("が" if is_own else "を")]
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, wants(subject, form), question=is_question(form))
    return finish(slots, form, english, japanese)


def _have(subject: Subject, phrase: Options, form: Form) -> list[str | Options]:
    """Returns "has a dog", "doesn't have a dog", "does he have a dog"."""
    return do_clause(subject, "have {}", phrase, form)


def _render_have(verb: Verb) -> Callable[[Slots, Form], Rendered]:
    """Returns the rendering of possession: 持っています, or 飼っています for pets."""

    def render(slots: Slots, form: Form) -> Rendered:
        subject, noun = _parts(slots)
        english = _have(subject, singular(noun), form)
        predicate = simple(te_iru(verb), form)
        japanese = japanese_patterns(
            subject.topic(), NOTHING, [noun.japanese + "を"], predicate, question=is_question(form)
        )
        return finish(slots, form, english, japanese)

    return render


def _choose_number_of(nouns: Sequence[Noun]) -> Callable[[Random, Form], Slots]:
    def choose(random: Random, form: Form) -> Slots:
        return Slots(choose_subject(random, form), noun=pick(random, nouns), extra=2 + int(random.random() * 3))

    return choose


def _counted(noun: Noun, number: int) -> tuple[str, str]:
    """Returns a number of things: ("two pairs of shoes", "二足"), ("three cups of coffee", "三杯")."""
    english, japanese = count_words(number, noun.counter)
    if noun.kind == "pair":
        return f"{english} pairs of {noun.english}", japanese
    if noun.kind == "mass":
        return f"{english} {'cups' if 'cup drink' in noun.classes else 'glasses'} of {noun.english}", japanese
    return f"{english} {en.plural(noun.english)}", japanese


def _render_have_number(verb: Verb) -> Callable[[Slots, Form], Rendered]:
    def render(slots: Slots, form: Form) -> Rendered:
        subject, noun = _parts(slots)
        phrase, number = _counted(noun, slots.extra)
        predicate = simple(te_iru(verb), form)
        japanese = japanese_patterns(
            subject.topic(), NOTHING, [noun.japanese + "を", number], predicate, question=is_question(form)
        )
        return finish(slots, form, _have(subject, one(phrase), form), japanese)

    return render


def _render_bought_number(slots: Slots, form: Form) -> Rendered:
    subject, noun = _parts(slots)
    number, time = slots.extra
    phrase, japanese_number = _counted(noun, number)
    english = [*do_clause(subject, "buy {}", one(phrase), form), time.english]
    middle = [noun.japanese + "を", japanese_number]
    predicate = simple(Verb("買う", "godan"), form)
    japanese = japanese_patterns(subject.topic(), time.written, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _choose_bought(random: Random, form: Form) -> Slots:
    number = 2 + int(random.random() * 4)
    time = pick(random, [time for time in PAST_TIMES if time.suits(("day",))])
    return Slots(choose_subject(random, form), noun=pick(random, _SOLD_BY_NUMBER), extra=(number, time))


def _render_give_me_number(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    phrase, number = _counted(noun, slots.extra)
    predicate = Predicate(("ください",), ("くれ",), ("くれ",), "くれ")
    english: list[str | Options] = ["please give me", (phrase,)]
    japanese = japanese_patterns(NOTHING, NOTHING, [noun.japanese + "を", number], predicate)
    return finish(slots, "request", english, japanese)


def _buyable() -> tuple[Noun, ...]:
    return tuple(noun for noun in _SOLD if noun.counter and noun.kind != "mass")


_SOLD = nouns_of("groceries", "clothes for sale", "household goods", "stationery", "reading", "flower", "cup drink")


def _render_price(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    english = ["how much", is_or_are(noun), demonstrative(noun, far=slots.extra)]
    subject = (f"あの{noun.japanese}は", f"その{noun.japanese}は") if slots.extra else one(f"この{noun.japanese}は")
    return finish(slots, form, english, japanese_patterns(subject, NOTHING, [], copula("いくら"), question=True))


def _choose_thing(nouns: Sequence[Noun]) -> Callable[[Random, Form], Slots]:
    return lambda random, form: Slots(noun=pick(random, nouns), extra=random.random() < 0.4)


def _choose_owner(random: Random, form: Form) -> Slots:
    owner = YOU if form == "question" and random.random() < 0.5 else pick(random, (I, I, *PRONOUNS, *NAMES))
    return Slots(owner, noun=pick(random, _SMALL_OWNED))


def _owner(subject: Subject) -> Options:
    """Returns 私の, 彼の, あなたの; the owner is spoken here, since dropping it changes the meaning."""
    return tuple(name + "の" for name in subject.japanese if name)


def _render_belonging(slots: Slots, form: Form) -> Rendered:
    owner, noun = _parts(slots)
    this, be = ("these", "are") if noun.kind == "pair" else ("this", "is")
    thing = f"{owner.owner} {noun.english}"
    negative = form == "negative"
    english: list[str | Options]
    english = [be, this, thing] if is_question(form) else [this, negated(be) if negative else be, thing]
    middle = [_owner(owner)]
    predicate = copula(noun.japanese, negative=negative)
    return finish(
        slots, form, english, japanese_patterns(("これは",), NOTHING, middle, predicate, question=is_question(form))
    )


def _render_whose(slots: Slots, form: Form) -> Rendered:
    noun = slots.noun
    assert noun is not None
    be = "are these" if noun.kind == "pair" else "is this"
    japanese = japanese_patterns(("これは",), NOTHING, ["誰の"], copula(noun.japanese), question=True)
    return finish(slots, form, ["whose", noun.english, be], japanese)


def _render_where_is(slots: Slots, form: Form) -> Rendered:
    owner, noun = _parts(slots)
    english = ["where", is_or_are(noun), f"{owner.owner} {noun.english}"]
    middle = [_owner(owner), noun.japanese + "は"]
    where = Predicate(("どこです", "どこにあります"), ("どこだ", "どこにある"), ("どこ", "どこにある"), "どこ")
    return finish(slots, "question", english, japanese_patterns(NOTHING, NOTHING, middle, where, question=True))


def _choose_giving(random: Random, form: Form) -> Slots:
    giver = pick(random, (I, I, *PRONOUNS, *NAMES))
    receiver = pick(random, [name for name in NAMES if name != giver])
    time = pick(random, _DAYS)
    return Slots(giver, noun=pick(random, _GIFTS), extra=(receiver, time))


def _render_giving(slots: Slots, form: Form) -> Rendered:
    giver, noun = _parts(slots)
    receiver, time = slots.extra
    english = [giver.english, "gave", receiver.english, singular(noun), time.english]
    to = tuple(name + "に" for name in receiver.japanese)
    predicate = Verb("あげる", "ichidan").past()
    middle = [to, noun.japanese + "を"]
    return finish(slots, form, english, japanese_patterns(giver.topic(), time.written, middle, predicate))


def _choose_gift(random: Random, form: Form) -> Slots:
    giver = pick(random, (*PRONOUNS, *NAMES))
    return Slots(giver, noun=pick(random, _GIFTS), extra=pick(random, _DAYS))


def _render_gift(slots: Slots, form: Form) -> Rendered:
    giver, noun = _parts(slots)
    time = slots.extra
    english = [giver.english, "gave me", singular(noun), time.english]
    middle = [("私に", ""), noun.japanese + "を"]
    predicate = Verb("くれる", "ichidan").past()
    return finish(slots, form, english, japanese_patterns(giver.topic(), time.written, middle, predicate))


_GIFTS = nouns_of("clothes for sale", "gift")
_DAYS = tuple(time for time in PAST_TIMES if time.suits(("day",)))
_SOLD_BY_NUMBER = _buyable()
_COUNTED_GOODS = nouns_of("owned in number")
_ORDERED = nouns_of("cup drink", "glass drink", "countable food")
_STATES: tuple[Form, ...] = ("present", "negative", "question")
_MOTSU, _KAU = Verb("持つ", "godan"), Verb("飼う", "godan")

THING_FRAMES: tuple[Frame, ...] = (
    Frame("like", (*_STATES, "past"), _choose_among(_LIKED), _feeling("like", "好き"), 2.0),
    Frame("love", ("present", "question", "past"), _choose_among(_LIKED), _feeling("love", "大好き"), 1.5),
    Frame("like as a child", ("past",), _choose_child, _render_as_child),
    Frame("preference", ("present", "question"), _choose_two(_comparable_likes()), _render_preference, 1.2),
    Frame("which", ("question",), _choose_two(_comparable_likes()), _render_which, 0.6),
    Frame("favorite", ("present", "question"), _choose_favorite, _render_favorite, 0.8),
    Frame("want", (*_STATES, "past"), _choose_among(_WANTED), _render_want, 1.5),
    Frame("have", _STATES, _choose_among(_OWNED), _render_have(_MOTSU), 1.2),
    Frame("have a pet", _STATES, _choose_among(nouns_of("pet")), _render_have(_KAU), 0.7),
    Frame(
        "have several",
        ("present",),
        _choose_number_of(_COUNTED_GOODS),
        _render_have_number(_MOTSU),
        may_hold_out=False,
    ),
    Frame(
        "have several pets",
        ("present",),
        _choose_number_of(nouns_of("pet")),
        _render_have_number(_KAU),
        0.6,
        may_hold_out=False,
    ),
    Frame("buy several", ("past",), _choose_bought, _render_bought_number, 1.2, may_hold_out=False),
    Frame(
        "give me several", ("request",), _choose_number_of(_ORDERED), _render_give_me_number, 0.5, may_hold_out=False
    ),
    Frame("price", ("question",), _choose_thing(_SOLD), _render_price, 0.6),
    Frame("belonging", _STATES, _choose_owner, _render_belonging),
    Frame("whose", ("question",), _choose_thing(_SMALL_OWNED), _render_whose, 0.4),
    Frame("where is it", ("question",), _choose_owner, _render_where_is, 0.6),
    Frame("giving", ("past",), _choose_giving, _render_giving),
    Frame("gift", ("past",), _choose_gift, _render_gift),
)
