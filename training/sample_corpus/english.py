"""English morphology for the sample corpus: agreement, tense, articles, plurals, comparison."""

from dataclasses import dataclass
from typing import Literal

Number = Literal["singular", "plural"]

# base: (past, past participle); every verb not listed is regular.
IRREGULAR_VERBS: dict[str, tuple[str, str]] = {
    "be": ("was", "been"),
    "become": ("became", "become"),
    "blow": ("blew", "blown"),
    "break": ("broke", "broken"),
    "bring": ("brought", "brought"),
    "build": ("built", "built"),
    "buy": ("bought", "bought"),
    "catch": ("caught", "caught"),
    "choose": ("chose", "chosen"),
    "come": ("came", "come"),
    "cut": ("cut", "cut"),
    "do": ("did", "done"),
    "draw": ("drew", "drawn"),
    "drink": ("drank", "drunk"),
    "drive": ("drove", "driven"),
    "eat": ("ate", "eaten"),
    "fall": ("fell", "fallen"),
    "feed": ("fed", "fed"),
    "feel": ("felt", "felt"),
    "find": ("found", "found"),
    "forget": ("forgot", "forgotten"),
    "get": ("got", "gotten"),
    "give": ("gave", "given"),
    "go": ("went", "gone"),
    "have": ("had", "had"),
    "hold": ("held", "held"),
    "hurt": ("hurt", "hurt"),
    "know": ("knew", "known"),
    "leave": ("left", "left"),
    "lend": ("lent", "lent"),
    "lose": ("lost", "lost"),
    "make": ("made", "made"),
    "meet": ("met", "met"),
    "pay": ("paid", "paid"),
    "put": ("put", "put"),
    "read": ("read", "read"),
    "ride": ("rode", "ridden"),
    "run": ("ran", "run"),
    "say": ("said", "said"),
    "see": ("saw", "seen"),
    "sell": ("sold", "sold"),
    "send": ("sent", "sent"),
    "sew": ("sewed", "sewn"),
    "show": ("showed", "shown"),
    "sing": ("sang", "sung"),
    "sleep": ("slept", "slept"),
    "speak": ("spoke", "spoken"),
    "swim": ("swam", "swum"),
    "take": ("took", "taken"),
    "teach": ("taught", "taught"),
    "think": ("thought", "thought"),
    "wear": ("wore", "worn"),
    "win": ("won", "won"),
    "write": ("wrote", "written"),
}

IRREGULAR_PLURALS: dict[str, str] = {
    "child": "children",
    "deer": "deer",
    "goldfish": "goldfish",
    "knife": "knives",
    "leaf": "leaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "piano": "pianos",
    "photo": "photos",
    "kimono": "kimonos",
    "scarf": "scarves",
    "sheep": "sheep",
    "shelf": "shelves",
    "tooth": "teeth",
    "volcano": "volcanoes",
    "wife": "wives",
    "woman": "women",
    "zoo": "zoos",
    "bus": "buses",
}

# Verbs whose last consonant doubles before -ed and -ing.
_DOUBLING = frozenset({"cut", "drop", "get", "hug", "knit", "plan", "put", "run", "shop", "stop", "swim", "win"})
_VOWELS = "aeiou"

IRREGULAR_COMPARISON: dict[str, tuple[str, str]] = {
    "good": ("better", "best"),
    "bad": ("worse", "worst"),
    "far": ("farther", "farthest"),
}
# Adjectives of two syllables that compare with -er all the same (beside all those in -y).
_SHORT_TWO_SYLLABLES = frozenset({"quiet", "narrow", "shallow", "simple", "gentle"})
_BIG_LIKE = frozenset({"big", "hot", "thin", "wet", "sad", "fat", "red"})


@dataclass(frozen=True)
class Subject:
    """A sentence subject: what agreement needs in English and what stands before は in Japanese.

    Attributes:
        name: Key of the subject, for example `"he"`.
        english: Nominative form inside a sentence, for example `"he"`.
        possessive: `"his"` in "his hands".
        person: `"i"`, `"third"` (he, she, a name, my father) or `"plural"` (we, you, they).
        japanese: Accepted Japanese forms without は, the canonical one first; `""` means dropped.
        is_first_person: Whether the speaker is among the subject, so that a wish is stated with 〜たい.
    """

    name: str
    english: str
    possessive: str
    person: Literal["i", "third", "plural"]
    japanese: tuple[str, ...]
    is_first_person: bool = False

    def topic(self, particle: str = "は") -> tuple[str, ...]:
        """Returns the subject with its topic particle, dropped forms staying empty."""
        return tuple(form + particle if form else "" for form in self.japanese)

    @property
    def owner(self) -> str:
        """The possessive before a thing: "my", "his", "Ken's", "my father's"."""
        is_pronoun = self.name in ("i", "you", "he", "she", "we", "they")
        return self.possessive if is_pronoun else f"{self.english}'s"

    @property
    def pronoun(self) -> str:
        """The pronoun that takes the subject up again: "she" after "Emi"."""
        if self.name in ("i", "you", "we", "they"):
            return self.english
        return {"his": "he", "her": "she"}.get(self.possessive, "they")

    def be(self, *, past: bool = False) -> str:
        """Returns the form of "to be" that agrees with the subject."""
        if past:
            return "were" if self.person == "plural" else "was"
        return {"i": "am", "third": "is", "plural": "are"}[self.person]

    def do(self) -> str:
        """Returns "do" or "does"."""
        return "does" if self.person == "third" else "do"


def _replace_head(phrase: str, form: str) -> str:
    """Replaces the first word of a verb phrase ("take care of") by `form`."""
    _, _, rest = phrase.partition(" ")
    return f"{form} {rest}" if rest else form


def _head(phrase: str) -> str:
    return phrase.partition(" ")[0]


def _ends_consonant_y(word: str) -> bool:
    return word.endswith("y") and len(word) > 1 and word[-2] not in _VOWELS


def _add_s(word: str) -> str:
    if _ends_consonant_y(word):
        return word[:-1] + "ies"
    if word.endswith(("s", "x", "z", "ch", "sh")) or (word.endswith("o") and word[-2] not in _VOWELS):
        return word + "es"
    return word + "s"


def plural(noun: str) -> str:
    """Returns the plural of a noun or noun phrase whose last word is the head ("police officer")."""
    before, _, head = noun.rpartition(" ")
    form = IRREGULAR_PLURALS.get(head) or _add_s(head)
    return f"{before} {form}" if before else form


def third_person(verb: str) -> str:
    """Returns the third person singular: eat → eats, study → studies, have → has."""
    special = {"have": "has", "be": "is", "do": "does", "go": "goes"}
    return _replace_head(verb, special.get(_head(verb)) or _add_s(_head(verb)))


def _regular_past(word: str) -> str:
    if word.endswith("e"):
        return word + "d"
    if _ends_consonant_y(word):
        return word[:-1] + "ied"
    return word + (word[-1] if word in _DOUBLING else "") + "ed"


def past(verb: str) -> str:
    """Returns the simple past: eat → ate, study → studied, take care of → took care of."""
    head = _head(verb)
    return _replace_head(verb, IRREGULAR_VERBS[head][0] if head in IRREGULAR_VERBS else _regular_past(head))


def past_participle(verb: str) -> str:
    """Returns the past participle: eat → eaten, visit → visited."""
    head = _head(verb)
    return _replace_head(verb, IRREGULAR_VERBS[head][1] if head in IRREGULAR_VERBS else _regular_past(head))


def ing(verb: str) -> str:
    """Returns the -ing form: make → making, swim → swimming, see → seeing."""
    head = _head(verb)
    if head.endswith("e") and not head.endswith(("ee", "ye")) and head != "be":
        form = head[:-1] + "ing"
    else:
        form = head + (head[-1] if head in _DOUBLING else "") + "ing"
    return _replace_head(verb, form)


def agree(verb: str, subject: Subject) -> str:
    """Returns the present tense of `verb` that agrees with `subject`."""
    return third_person(verb) if subject.person == "third" else verb


def with_article(noun_phrase: str) -> str:
    """Returns the phrase with "a" or "an", chosen by sound: an hour, a university."""
    first = noun_phrase.lower()
    if first.startswith(("hour", "honest")):
        return f"an {noun_phrase}"
    starts_with_y_sound = first.startswith(("uni", "use", "euro", "one"))
    return f"{'an' if first[0] in _VOWELS and not starts_with_y_sound else 'a'} {noun_phrase}"


def _compares_with_more(adjective: str) -> bool:
    if adjective in _SHORT_TWO_SYLLABLES or adjective.endswith("y"):
        return False
    groups = 0
    previous_is_vowel = False
    for letter in adjective.removesuffix("e"):
        is_vowel = letter in "aeiouy"
        groups += is_vowel and not previous_is_vowel
        previous_is_vowel = is_vowel
    return groups > 1


def _with_ending(adjective: str, ending: str) -> str:
    if adjective.endswith("e"):
        return adjective + ending[1:]
    if _ends_consonant_y(adjective):
        return adjective[:-1] + "i" + ending
    return adjective + (adjective[-1] if adjective in _BIG_LIKE else "") + ending


def comparative(adjective: str) -> str:
    """Returns the comparative: big → bigger, easy → easier, beautiful → more beautiful."""
    if adjective in IRREGULAR_COMPARISON:
        return IRREGULAR_COMPARISON[adjective][0]
    return f"more {adjective}" if _compares_with_more(adjective) else _with_ending(adjective, "er")


def superlative(adjective: str) -> str:
    """Returns the superlative without "the": big → biggest, famous → most famous."""
    if adjective in IRREGULAR_COMPARISON:
        return IRREGULAR_COMPARISON[adjective][1]
    return f"most {adjective}" if _compares_with_more(adjective) else _with_ending(adjective, "est")
