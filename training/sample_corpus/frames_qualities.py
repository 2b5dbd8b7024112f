"""Frames around a thing and a quality: is, was, very, too, looks, compared, introduced, thought of."""

from collections.abc import Callable, Iterable
from random import Random

from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.adjectives import ADJECTIVES, Adjective
from kakehashi.training.sample_corpus.clauses import NOTHING, be_clause, do_clause, finish, is_question, simple, wants
from kakehashi.training.sample_corpus.english import Subject
from kakehashi.training.sample_corpus.frame import Form, Frame, Slots, choose_subject, pick
from kakehashi.training.sample_corpus.japanese import Predicate, Verb, copula, te_iru, verb
from kakehashi.training.sample_corpus.nouns import NOUNS, Noun, nouns_of
from kakehashi.training.sample_corpus.render import (
    Options,
    Rendered,
    demonstrative,
    generic,
    is_or_are,
    japanese_patterns,
    negated,
    one,
)

Render = Callable[[Slots, Form], Rendered]
PredicateOf = Callable[[Subject, Form], Predicate]


def _described(slots: Slots) -> tuple[Noun, Adjective]:
    assert slots.noun is not None and slots.adjective is not None
    return slots.noun, slots.adjective


_COLORS = frozenset({"red", "white", "black", "blue", "yellow"})
# Said of too much, and of what one can see from outside.
_EXCESSIVE = frozenset(
    {
        "big",
        "small",
        "expensive",
        "sweet",
        "spicy",
        "sour",
        "bitter",
        "salty",
        "soft",
        "hard",
        "hot",
        "cold",
        "difficult",
    }
    | {"easy", "long", "short", "heavy", "slow", "spacious", "cramped", "bright", "dark", "dangerous"}
)
_VISIBLE = frozenset(
    {"expensive", "cheap", "delicious", "sweet", "spicy", "sour", "bitter", "soft", "hard", "hot", "cold", "difficult"}
    | {"easy", "interesting", "boring", "useful", "heavy", "light", "warm", "scary", "smart", "gentle", "fast"}
    | {"comfortable", "dangerous"}
)
# What one looks for in a thing, and what one may have without looking for it.
_DESIRABLE = frozenset(
    {
        "big",
        "small",
        "new",
        "expensive",
        "cheap",
        "cute",
        "light",
        "fast",
        "warm",
        "comfortable",
        "useful",
        "soft",
        "long",
    }
    | _COLORS
)
_POSSESSED = (_DESIRABLE - {"comfortable"}) | {"old", "heavy", "short"}
_LIKABLE = (_DESIRABLE - {"cheap", "expensive", "comfortable", "useful"}) | frozenset(
    {
        "old",
        "sweet",
        "spicy",
        "sour",
        "bitter",
        "cold",
        "hot",
        "gentle",
        "smart",
        "scary",
        "famous",
        "short",
        "difficult",
    }
)
_WORTH_BUYING = ("cheap", "cute", "useful", "light", "fresh", "warm", "comfortable")
_NOT_WORTH_BUYING = ("expensive", "heavy", "old", "big", "small", "hard")


def _is_unique(noun: Noun) -> bool:
    """Whether there is only one of it ("the sky"), or it is a name ("Kyoto"): no "this" and no "a"."""
    return noun.kind == "bare" or (noun.kind == "the" and noun.topic == "nature")


def _choices(adjectives: Iterable[str], nouns: Iterable[Noun] | None = None) -> dict[Adjective, list[Noun]]:
    """Returns each adjective with the nouns it may describe (among `nouns` where given), if there are any."""
    among = None if nouns is None else set(nouns)
    found = {
        word: [noun for noun in word.nouns if among is None or noun in among]
        for word in (ADJECTIVES[name] for name in ADJECTIVES if name in set(adjectives))
    }
    return {word: members for word, members in found.items() if members}


def _choose_from(choices: dict[Adjective, list[Noun]]) -> Callable[[Random, Form], Slots]:
    """Returns a chooser of an adjective and a noun it describes, every adjective as likely."""
    adjectives = list(choices)

    def choose(random: Random, form: Form) -> Slots:
        adjective = pick(random, adjectives)
        # The past is told of what is no longer at hand.
        far = form.startswith("past") or random.random() < 0.4
        noun = pick(random, choices[adjective])
        return Slots(choose_subject(random, form), noun=noun, adjective=adjective, extra=far)

    return choose


def _this(noun: Noun, *, far: bool) -> tuple[str, str]:
    """Returns the thing spoken of: ("this dog", "この犬"), or ("the sky", "空") where there is only one."""
    if _is_unique(noun):
        return generic(noun)[0], noun.japanese
    return demonstrative(noun, far=far), ("あの" if far else "この") + noun.japanese


def _far_forms(japanese_phrase: str) -> Options:
    """Returns あの犬 with その犬 beside it: "that" does not tell them apart."""
    is_far = japanese_phrase.startswith("あの")
    return (japanese_phrase, "その" + japanese_phrase.removeprefix("あの")) if is_far else one(japanese_phrase)


def _render_quality(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    phrase, japanese_phrase = _this(noun, far=slots.extra)
    negative, past, asks = "negative" in form, "past" in form, is_question(form)
    be = is_or_are(noun, past=past)
    english: list[str | Options] = [be, phrase] if asks else [phrase, negated(be) if negative else be]
    predicate = adjective.predicate(negative=negative, past=past)
    subject = tuple(text + "は" for text in _far_forms(japanese_phrase))
    japanese = japanese_patterns(subject, NOTHING, [], predicate, question=asks)
    return finish(slots, form, [*english, adjective.english], japanese)


def _render_very(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    phrase, japanese_phrase = _this(noun, far=slots.extra)
    past = form == "past"
    english = [phrase, is_or_are(noun, past=past), "very", adjective.english]
    very = ("とても", "すごく")
    japanese = japanese_patterns(
        tuple(text + "は" for text in _far_forms(japanese_phrase)), NOTHING, [very], adjective.predicate(past=past)
    )
    return finish(slots, form, english, japanese)


def _render_introduced(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    pronoun = "these" if noun.kind == "pair" else "this"
    be = is_or_are(noun)
    phrase = f"{adjective.english} {noun.english}"
    if noun.kind in ("count", "the"):
        phrase = en.with_article(phrase)
    asks = form == "question"
    english: list[str | Options] = [be, pronoun] if asks else [pronoun, negated(be) if form == "negative" else be]
    predicate = copula(f"{adjective.before_noun}{noun.japanese}", negative=form == "negative")
    japanese = japanese_patterns(("これは",), NOTHING, [], predicate, question=asks)
    return finish(slots, form, [*english, phrase], japanese)


def _render_compared(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    phrase = demonstrative(noun)
    asks = form == "question"
    be = is_or_are(noun)
    than_that = f"{en.comparative(adjective.english)} than"
    others = ("those", "those ones") if noun.kind == "pair" else ("that one", f"that {noun.english}")
    tail = tuple(f"{than_that} {other}" for other in others)
    english: list[str | Options] = [be, phrase, tail] if asks else [phrase, be, tail]
    subject = one(f"この{noun.japanese}は")
    than = (f"あの{noun.japanese}より", f"その{noun.japanese}より")
    japanese = japanese_patterns(subject, NOTHING, [than], adjective.predicate(), question=asks)
    return finish(slots, form, english, japanese)


def _render_too(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    phrase, japanese_phrase = _this(noun, far=slots.extra)
    english = [phrase, is_or_are(noun), "too", adjective.english]
    predicate = Verb(adjective.stem + "すぎる", "ichidan").present()
    japanese = japanese_patterns(tuple(text + "は" for text in _far_forms(japanese_phrase)), NOTHING, [], predicate)
    return finish(slots, form, english, japanese)


def _render_looks(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    phrase, japanese_phrase = _this(noun, far=slots.extra)
    look = "look" if noun.kind == "pair" else "looks"
    predicate = copula(adjective.stem + "そう")
    japanese = japanese_patterns(tuple(text + "は" for text in _far_forms(japanese_phrase)), NOTHING, [], predicate)
    return finish(slots, form, [phrase, look, adjective.english], japanese)


def _render_think(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    phrase, japanese_phrase = _this(noun, far=slots.extra)
    english: list[str | Options] = ["I", ("think", "think that"), phrase, is_or_are(noun), adjective.english]
    clause = f"{japanese_phrase}は{adjective.predicate().plain[0]}と"
    japanese = japanese_patterns(("", "私は"), NOTHING, [clause], Verb("思う", "godan").present())
    return finish(slots, form, english, japanese)


def _quality_phrase(noun: Noun, adjective: Adjective, *, in_general: bool = False) -> Options:
    """Returns "a red hat", "red shoes", "fresh milk", or "small dogs" in general."""
    phrase = f"{adjective.english} {noun.english}"
    if noun.kind != "count":
        return (phrase, f"the {phrase}")
    many = f"{adjective.english} {en.plural(noun.english)}"
    article = en.with_article(phrase)
    return (many, article, f"the {many}") if in_general else (article, many, f"the {phrase}")


def _render_object(phrase: str, predicate_of: PredicateOf, particle: str, *, in_general: bool = False) -> Render:
    """Returns the rendering of a verb whose object has a quality: want a red hat, have an old car, like small dogs."""

    def render(slots: Slots, form: Form) -> Rendered:
        noun, adjective = _described(slots)
        subject = slots.subject
        assert subject is not None
        english = do_clause(subject, phrase, _quality_phrase(noun, adjective, in_general=in_general), form)
        is_own = subject.is_first_person or subject.name == "you"
        mark = particle if particle != "が/を" else ("が" if is_own else "を")
        middle = [adjective.before_noun + noun.japanese + mark]
        predicate = predicate_of(subject, form)
        japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
        return finish(slots, form, english, japanese)

    return render


def _having(subject: Subject, form: Form) -> Predicate:
    return simple(te_iru(Verb("持つ", "godan")), form)


def _liking(subject: Subject, form: Form) -> Predicate:
    return copula("好き", negative=form == "negative")


# How a garment is put on decides the Japanese verb.
_PUTTING_ON: tuple[tuple[str, str], ...] = (
    ("wearable", "着る/1"),
    ("below the waist", "はく"),
    ("headwear", "かぶる/5"),
    ("eyewear", "かける/1"),
    ("tied on", "する"),
)


def _putting_on(noun: Noun) -> Verb:
    return verb(next(word for name, word in _PUTTING_ON if name in noun.classes))


def _render_wearing(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    subject = slots.subject
    assert subject is not None
    english = [
        *be_clause(subject, form),
        "wearing",
        _quality_phrase(noun, adjective, in_general=subject.person == "plural" and subject.name != "you"),
    ]
    middle = [f"{adjective.before_noun}{noun.japanese}を"]
    predicate = simple(te_iru(_putting_on(noun)), form)
    japanese = japanese_patterns(subject.topic(), NOTHING, middle, predicate, question=is_question(form))
    return finish(slots, form, english, japanese)


def _choose_reason(random: Random, form: Form) -> Slots:
    return _choose_from(_BOUGHT if form == "past" else _NOT_BOUGHT)(random, form)


def _render_reason(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    bought = "bought" if form == "past" else ("didn't buy", "did not buy")
    it = "they were" if noun.kind == "pair" else "it was"
    english: list[str | Options] = ["I", bought, demonstrative(noun), f"because {it} {adjective.english}"]
    because = tuple(f"{adjective.connective}{link}、" for link in ("ので", "から"))
    particle = "を" if form == "past" else "は"
    predicate = simple(Verb("買う", "godan"), form)
    middle = [because, f"この{noun.japanese}{particle}"]
    return finish(slots, form, english, japanese_patterns(NOTHING, NOTHING, middle, predicate))


def _render_becoming(slots: Slots, form: Form) -> Rendered:
    noun, adjective = _described(slots)
    english: list[str | Options] = [f"the {noun.english}", ("became", "got"), adjective.english]
    subject = (f"{noun.japanese}が", f"{noun.japanese}は")
    predicate = Verb("なる", "godan").past().after(adjective.before_verb)
    return finish(slots, form, english, japanese_patterns(subject, NOTHING, [], predicate))


_ALL = tuple(ADJECTIVES)
_PLAIN_WORDS = tuple(name for name in ADJECTIVES if name not in _COLORS)
_SOLID = [noun for noun in NOUNS.values() if not _is_unique(noun)]
_COUNTABLE = [noun for noun in _SOLID if noun.kind in ("count", "pair")]
_GOODS = nouns_of("household goods", "clothes for sale", "vehicle", "personal machine", "stationery", "hobby thing")
_BOUGHT = _choices(_WORTH_BUYING, (*_GOODS, *nouns_of("fruit", "vegetable", "ingredient")))
_NOT_BOUGHT = _choices(_NOT_WORTH_BUYING, _GOODS)
_STATES: tuple[Form, ...] = ("present", "negative", "question")
_WEARING = nouns_of("worn")
_KINDS_LIKED = nouns_of(
    "pet", "livestock", "edible", "drinkable", "flower", "worn", "carried", "vehicle", "show", "reading"
)

QUALITY_FRAMES: tuple[Frame, ...] = (
    Frame("quality", _STATES, _choose_from(_choices(_ALL)), _render_quality, 3.0),
    Frame(
        "past quality",
        ("past", "past negative", "past question"),
        _choose_from(_choices(_PLAIN_WORDS)),
        _render_quality,
        1.5,
    ),
    Frame("very", ("present", "past"), _choose_from(_choices(_PLAIN_WORDS)), _render_very, 1.5),
    Frame("introduction", _STATES, _choose_from(_choices(_ALL, _SOLID)), _render_introduced, 1.5),
    Frame(
        "comparison", ("present", "question"), _choose_from(_choices(_PLAIN_WORDS, _COUNTABLE)), _render_compared, 1.5
    ),
    Frame("too much", ("present",), _choose_from(_choices(_EXCESSIVE)), _render_too),
    Frame("appearance", ("present",), _choose_from(_choices(_VISIBLE)), _render_looks),
    Frame("thought", ("present",), _choose_from(_choices(_PLAIN_WORDS)), _render_think),
    Frame(
        "want with quality",
        (*_STATES, "past"),
        _choose_from(_choices(_DESIRABLE, _GOODS)),
        _render_object("want {}", wants, "が/を"),
    ),
    Frame(
        "have with quality",
        ("present", "question"),
        _choose_from(_choices(_POSSESSED, _GOODS)),
        _render_object("have {}", _having, "を"),
    ),
    Frame(
        "like with quality",
        _STATES,
        _choose_from(_choices(_LIKABLE, _KINDS_LIKED)),
        _render_object("like {}", _liking, "が", in_general=True),
    ),
    Frame("wearing", _STATES, _choose_from(_choices(_POSSESSED, _WEARING)), _render_wearing),
    Frame("reason", ("past", "past negative"), _choose_reason, _render_reason, 0.8),
    Frame(
        "becoming",
        ("past",),
        _choose_from(_choices([w.english for w in ADJECTIVES.values() if w.is_changeable], nouns_of("room"))),
        _render_becoming,
        0.2,
    ),
)
