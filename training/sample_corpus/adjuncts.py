"""Subjects, people and time words: what the sentence frames put around verbs, nouns and adjectives."""

from collections.abc import Sequence
from dataclasses import dataclass

from kakehashi.training.sample_corpus.english import Subject

I = Subject("i", "I", "my", "i", ("私", ""), is_first_person=True)  # noqa: E741
YOU = Subject("you", "you", "your", "plural", ("", "あなた"))
WE = Subject("we", "we", "our", "plural", ("私たち",), is_first_person=True)
PRONOUNS: tuple[Subject, ...] = (
    Subject("he", "he", "his", "third", ("彼",)),
    Subject("she", "she", "her", "third", ("彼女",)),
    Subject("they", "they", "their", "plural", ("彼ら",)),
)
_NAMES = (
    "Ken:ケン:his Emi:エミ:her Taro:太郎:his Hanako:花子:her Yuki:ユキ:her Tom:トム:his Mary:メアリー:her "
    "Anna:アンナ:her John:ジョン:his Lisa:リサ:her Mike:マイク:his Maria:マリア:her"
)
NAMES: tuple[Subject, ...] = tuple(
    Subject(english, english, possessive, "third", (japanese + "さん", japanese))
    for english, japanese, possessive in (row.split(":") for row in _NAMES.split())
)
# What a statement can be about, the speaker more often than any other.
SPEAKERS: tuple[Subject, ...] = (I, I, I, WE)
OTHERS: tuple[Subject, ...] = (*PRONOUNS, *PRONOUNS, *NAMES)


@dataclass(frozen=True)
class Relative:
    """A person named by the relation to someone: 父 speaking of one's own, お父さん of anyone else's.

    Attributes:
        english: "father", "older brother".
        humble: Word for one's own relative.
        respectful: Word for someone else's.
        gender: `"m"`, `"f"`, or `""` when open or plural.
        age: `"child"`, `"adult"` or `"old"`: what may be said of them.
        is_plural: Whether the word is plural (parents).
    """

    english: str
    humble: str
    respectful: str
    gender: str
    age: str
    is_plural: bool = False

    @property
    def key(self) -> str:
        """The name of the word in the held-out split."""
        return f"relative:{self.english}"

    def _subject(self, english: str, japanese: tuple[str, ...]) -> Subject:
        possessive = {"m": "his", "f": "her", "": "their"}[self.gender]
        return Subject(self.key, english, possessive, "plural" if self.is_plural else "third", japanese)

    @property
    def mine(self) -> Subject:
        """The relative as a subject: "my father", 父."""
        return self._subject(f"my {self.english}", (self.humble, "私の" + self.humble))

    @property
    def yours(self) -> Subject:
        """The relative of the person spoken to: "your father", お父さん."""
        forms = (self.respectful, "あなたの" + self.respectful)
        return self._subject(f"your {self.english}", forms)

    def of(self, owner: Subject) -> Subject:
        """The relative of someone named: "Ken's father", ケンさんのお父さん."""
        forms = tuple(f"{name}の{self.respectful}" for name in owner.japanese)
        return self._subject(f"{owner.english}'s {self.english}", forms)


_RELATIVES = """father:父:お父さん:m:adult mother:母:お母さん:f:adult older_brother:兄:お兄さん:m:adult
older_sister:姉:お姉さん:f:adult younger_brother:弟:弟さん:m:child younger_sister:妹:妹さん:f:child
grandfather:祖父:おじいさん:m:old grandmother:祖母:おばあさん:f:old
uncle:おじ:おじさん:m:adult aunt:おば:おばさん:f:adult
husband:夫:ご主人:m:adult wife:妻:奥さん:f:adult son:息子:息子さん:m:child daughter:娘:娘さん:f:child
parents:両親:ご両親::adult cousin:いとこ:いとこ::adult friend:友達:友達::adult neighbor:近所の人:近所の人::adult"""
RELATIVES: tuple[Relative, ...] = tuple(
    Relative(english.replace("_", " "), humble, respectful, gender, age, english == "parents")
    for english, humble, respectful, gender, age in (row.split(":") for row in _RELATIVES.split())
)


@dataclass(frozen=True)
class Time:
    """A time word.

    Attributes:
        english: As it stands at the end of an English sentence.
        japanese: As it stands after the subject, with the particle it takes.
        kind: `"near"` (yesterday, tomorrow, every day), `"day"`, `"part"` (of a day) or `"long"`.
    """

    english: str
    japanese: str
    kind: str

    def suits(self, kinds: Sequence[str]) -> bool:
        """Whether the word goes with what happens at times of these kinds; what suits a day suits yesterday."""
        return self.kind in kinds or (self.kind == "near" and "day" in kinds)

    @property
    def written(self) -> tuple[str, ...]:
        """The Japanese forms inside a sentence, with and without a comma where there is no particle."""
        return (self.japanese,) if self.japanese.endswith("に") else (self.japanese + "、", self.japanese)


def _times(rows: str) -> tuple[Time, ...]:
    return tuple(Time(*row.strip().split(":")) for row in rows.split(","))


PAST_TIMES = _times(
    "yesterday:昨日:near, the day before yesterday:おととい:day, last Sunday:先週の日曜日に:day,"
    " last Saturday:先週の土曜日に:day, two days ago:二日前に:day, three days ago:三日前に:day, last week:先週:day,"
    " this morning:今朝:part, last night:昨夜:part, last month:先月:long, last year:去年:long,"
    " two years ago:二年前に:long, last summer:去年の夏に:long"
)
FUTURE_TIMES = _times(
    "tomorrow:明日:near, the day after tomorrow:あさって:day, on Sunday:日曜日に:day, on Saturday:土曜日に:day,"
    " on Monday:月曜日に:day, next week:来週:day, this weekend:今週末:day, tonight:今夜:part,"
    " tomorrow morning:明日の朝:part, this afternoon:今日の午後:part, next month:来月:long, next year:来年:long,"
    " next summer:来年の夏に:long"
)
HABIT_TIMES: tuple[Time, ...] = _times(
    "every day:毎日:near, every morning:毎朝:part, every evening:毎晩:part, on Sundays:毎週日曜日に:day,"
    " every week:毎週:day, every year:毎年:long"
)
# Adverbs that stand before the English verb.
FREQUENCIES: tuple[tuple[str, str], ...] = (("often", "よく"), ("sometimes", "時々"), ("occasionally", "たまに"))

NUMERALS: tuple[tuple[str, str, str], ...] = (
    ("two", "二", "二つ"),
    ("three", "三", "三つ"),
    ("four", "四", "四つ"),
    ("five", "五", "五つ"),
    ("six", "六", "六つ"),
    ("seven", "七", "七つ"),
    ("eight", "八", "八つ"),
)


def count_words(number: int, counter: str) -> tuple[str, str]:
    """Returns a number from two to eight in English and with its Japanese counter: ("three", "三匹").

    Raises:
        ValueError: If `number` is outside two to eight.
    """
    if not 2 <= number <= 8:
        raise ValueError(f"`number` must be 2 to 8, got {number}")
    english, kanji, native = NUMERALS[number - 2]
    return english, native if counter == "つ" else kanji + counter
