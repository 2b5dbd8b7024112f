"""Japanese conjugation for the sample corpus: verbs of every group, i- and na-adjectives, nouns with だ.

Everything is returned as a `Predicate`: the polite and the plain form of the same thing, as a statement and as a
question, each with its accepted alternatives, the canonical one first.
"""

from dataclasses import dataclass
from typing import Literal

VerbGroup = Literal["godan", "ichidan", "suru", "kuru"]

# Dictionary ending: (a-row, i-row, e-row, o-row, te-ending, ta-ending) of godan verbs.
_GODAN_ROWS: dict[str, tuple[str, str, str, str, str, str]] = {
    "う": ("わ", "い", "え", "お", "って", "った"),
    "く": ("か", "き", "け", "こ", "いて", "いた"),
    "ぐ": ("が", "ぎ", "げ", "ご", "いで", "いだ"),
    "す": ("さ", "し", "せ", "そ", "して", "した"),
    "つ": ("た", "ち", "て", "と", "って", "った"),
    "ぬ": ("な", "に", "ね", "の", "んで", "んだ"),
    "ぶ": ("ば", "び", "べ", "ぼ", "んで", "んだ"),
    "む": ("ま", "み", "め", "も", "んで", "んだ"),
    "る": ("ら", "り", "れ", "ろ", "って", "った"),
}


@dataclass(frozen=True)
class Predicate:
    """The end of a Japanese sentence in both levels of politeness, alternatives in each field, canonical first.

    Attributes:
        polite: です/ます form.
        plain: Plain form as it ends a statement, だ included.
        plain_question: Plain form as it stands before ？, without だ.
        before_noun: Plain form as it stands before a noun or before のは, な included.
    """

    polite: tuple[str, ...]
    plain: tuple[str, ...]
    plain_question: tuple[str, ...]
    before_noun: str

    @property
    def polite_question(self) -> tuple[str, ...]:
        """The polite forms with か."""
        return tuple(form + "か" for form in self.polite)

    def after(self, prefix: str) -> "Predicate":
        """Returns the predicate with `prefix` put before every form (背が + 高いです)."""
        return Predicate(
            tuple(prefix + form for form in self.polite),
            tuple(prefix + form for form in self.plain),
            tuple(prefix + form for form in self.plain_question),
            prefix + self.before_noun,
        )


@dataclass(frozen=True)
class Verb:
    """A Japanese verb in dictionary form, with whatever stands before it (餌をやる) in `dictionary`.

    Attributes:
        dictionary: Dictionary form, for example 食べる.
        group: Conjugation group.
    """

    dictionary: str
    group: VerbGroup

    def __post_init__(self) -> None:
        """Checks that the ending fits the group.

        Raises:
            ValueError: If the dictionary form cannot belong to `group`.
        """
        endings = {"ichidan": ("る",), "suru": ("する",), "kuru": ("来る",), "godan": tuple(_GODAN_ROWS)}
        if self.group not in endings or not self.dictionary.endswith(endings[self.group]):
            raise ValueError(f"`dictionary` must be a {self.group} verb in dictionary form, got {self.dictionary!r}")

    @property
    def _root(self) -> str:
        return self.dictionary[: -2 if self.group in ("suru", "kuru") else -1]

    @property
    def _is_iku(self) -> bool:
        return self.group == "godan" and self.dictionary.endswith(("行く", "いく"))

    def _godan(self, column: int) -> str:
        return self._root + _GODAN_ROWS[self.dictionary[-1]][column]

    @property
    def masu_stem(self) -> str:
        """The form before ます, たい and 始める: 食べ, 買い, 勉強し, 来."""
        if self.group == "godan":
            return self._godan(1)
        return self._root + {"ichidan": "", "suru": "し", "kuru": "来"}[self.group]

    @property
    def nai_stem(self) -> str:
        """The form before ない: 食べ, 買わ, 勉強し, 来; ある has none (ない itself)."""
        if self.group == "godan":
            return self._root[:-1] if self.dictionary.endswith("ある") else self._godan(0)
        return self.masu_stem

    @property
    def te(self) -> str:
        """The te-form: 食べて, 買って, 行って, 勉強して, 来て."""
        if self._is_iku:
            return self._root + "って"
        return self._godan(4) if self.group == "godan" else self.masu_stem + "て"

    @property
    def ta(self) -> str:
        """The plain past: 食べた, 買った, 行った, 勉強した, 来た."""
        if self._is_iku:
            return self._root + "った"
        return self._godan(5) if self.group == "godan" else self.masu_stem + "た"

    @property
    def nai(self) -> str:
        """The plain negative: 食べない, 買わない, 勉強しない, 来ない, ない for ある."""
        return self.nai_stem + "ない"

    @property
    def volitional(self) -> str:
        """The plain "let us": 食べよう, 買おう, 勉強しよう, 来よう."""
        return self._godan(3) + "う" if self.group == "godan" else self.masu_stem + "よう"

    @property
    def potential(self) -> "Verb":
        """The verb of ability: 食べられる, 買える, 勉強できる, 来られる."""
        if self.group == "godan":
            return Verb(self._godan(2) + "る", "ichidan")
        if self.group == "suru":
            return Verb(self._root + "できる", "ichidan")
        return Verb(self.masu_stem + "られる", "ichidan")

    def present(self) -> Predicate:
        """Returns 食べます / 食べる."""
        return _predicate(self.masu_stem + "ます", self.dictionary)

    def negative(self) -> Predicate:
        """Returns 食べません (食べないです) / 食べない."""
        return _predicate((self.masu_stem + "ません", self.nai + "です"), self.nai)

    def past(self) -> Predicate:
        """Returns 食べました / 食べた."""
        return _predicate(self.masu_stem + "ました", self.ta)

    def past_negative(self) -> Predicate:
        """Returns 食べませんでした (食べなかったです) / 食べなかった."""
        plain = self.nai_stem + "なかった"
        return _predicate((self.masu_stem + "ませんでした", plain + "です"), plain)


def _predicate(polite: str | tuple[str, ...], plain: str | tuple[str, ...]) -> Predicate:
    polite = (polite,) if isinstance(polite, str) else polite
    plain = (plain,) if isinstance(plain, str) else plain
    return Predicate(polite, plain, plain, plain[0])


def verb(text: str) -> Verb:
    """Returns the verb written as 食べる/1 (ichidan), 帰る/5 (godan), or 飲む, 来る where the ending decides.

    Raises:
        ValueError: If a verb in る carries no group, since 着る and 切る differ in nothing else.
    """
    dictionary, _, mark = text.partition("/")
    if mark:
        return Verb(dictionary, "ichidan" if mark == "1" else "godan")
    if dictionary.endswith("する"):
        return Verb(dictionary, "suru")
    if dictionary.endswith("来る"):
        return Verb(dictionary, "kuru")
    if dictionary.endswith("る"):
        raise ValueError(f"a verb in る must carry its group, {dictionary}/1 or {dictionary}/5, got {text!r}")
    return Verb(dictionary, "godan")


def i_adjective(word: str, *, negative: bool = False, past: bool = False) -> Predicate:
    """Returns the predicate of an i-adjective; いい conjugates as よい.

    Raises:
        ValueError: If `word` does not end in い.
    """
    if not word.endswith("い"):
        raise ValueError(f"`word` must be an i-adjective ending in い, got {word!r}")
    stem = i_stem(word)
    if not negative:
        plain = stem + "かった" if past else word
        return _predicate(plain + "です", plain)
    plain = stem + ("くなかった" if past else "くない")
    formal = stem + ("くありませんでした" if past else "くありません")
    return _predicate((plain + "です", formal), plain)


def i_stem(word: str) -> str:
    """Returns what stands before く, かった and そう: 大き, よ (from いい)."""
    return word[:-2] + "よ" if word == "いい" or word.endswith("がいい") else word[:-1]


def copula(word: str, *, negative: bool = False, past: bool = False, attributive: str = "な") -> Predicate:
    """Returns the predicate of a na-adjective or noun: 好きです / 好きだ, 好きではありません / 好きではない.

    Args:
        word: The na-adjective or noun.
        negative: Whether to negate.
        past: Whether to put it into the past.
        attributive: な for na-adjectives, の for nouns.
    """
    if not negative and not past:
        return Predicate((word + "です",), (word + "だ",), (word,), word + attributive)
    if not negative:
        return _predicate(word + "でした", word + "だった")
    end, plain_end = ("ありませんでした", "なかった") if past else ("ありません", "ない")
    polite = (f"{word}では{end}", f"{word}じゃ{end}", f"{word}じゃ{plain_end}です")
    return _predicate(polite, (f"{word}では{plain_end}", f"{word}じゃ{plain_end}"))


def te_iru(verb: Verb) -> Verb:
    """Returns 食べている as a verb of its own, to be conjugated further."""
    return Verb(verb.te + "いる", "ichidan")


def tai(verb: Verb, *, negative: bool = False, past: bool = False) -> Predicate:
    """Returns 食べたいです, the speaker's own wish."""
    return i_adjective(verb.masu_stem + "たい", negative=negative, past=past)


def tagatte_iru(verb: Verb) -> Verb:
    """Returns 食べたがっている, a wish seen in someone else."""
    return Verb(verb.masu_stem + "たがっている", "ichidan")
