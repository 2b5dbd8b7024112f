"""The verbs of the sample corpus with their objects: what may be done to which nouns, and where it sounds natural."""

from dataclasses import dataclass
from typing import Literal

from kakehashi.training.sample_corpus.japanese import Verb, verb
from kakehashi.training.sample_corpus.nouns import NOUNS, Noun, nouns_of

Determiner = Literal["a", "one", "many", "the", "own", "bare"]


@dataclass(frozen=True, eq=False)
class Action:
    """A verb with the classes of its objects.

    Attributes:
        english: Verb phrase with `{}` where the object stands, none for a verb without object.
        particle: What joins object and verb in Japanese, for example を, に or の写真を; empty without object.
        japanese: The Japanese verb.
        objects: Nouns that may be the object; empty for a verb without object.
        topic: Topic of the sentence where no noun decides it.
        determiner: Of a countable object in a statement: `"a"` (plural where it is said in general), `"one"`
            (singular even then: "wear a tie every day"), `"many"` (plural: "bought eggs"), `"the"`, `"own"` ("wash my
            hands") or `"bare"`.
        frames: Letters of the frames in which the action is natural (see `FRAME_LETTERS`).
        times: Kinds of time words that go with it: `"near"` (only yesterday, not last week), `"day"`, `"part"` (this
            morning), `"long"` (last year).
    """

    english: str
    particle: str
    japanese: Verb
    objects: tuple[Noun, ...]
    topic: str
    determiner: Determiner
    frames: str
    times: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name of the verb in the held-out split."""
        return f"verb:{self.english.replace(' {}', '')}:{self.japanese.dictionary}"


# Letters of `Action.frames`.
FRAME_LETTERS: dict[str, str] = {
    "h": "habit: every day, often",
    "p": "past event",
    "f": "planned future",
    "g": "in progress now",
    "w": "wish",
    "c": "ability",
    "r": "request with a definite object",
    "n": "prohibition",
    "l": "proposal",
    "m": "obligation",
    "y": "permission",
    "e": "experience",
    "k": "liking to do it",
    "s": "beginning to do it",
    "b": "told with a public place",
}

# (english, particle + 日本語, topic or "" when the noun decides, classes | single words, determiner, frames, times)
_ROWS: tuple[tuple[str, str, str, str, Determiner, str, str], ...] = (
    # animals
    ("see {}", "を 見る/1", "", "wild animal, sea animal, livestock, small animal", "a", "pwe", "day"),
    ("have {}", "を 飼う", "", "pet", "a", "w", "long"),
    ("feed {}", "に餌を やる/5", "", "fed", "the", "hpfrnmyg", "near part"),
    ("take {} for a walk", "を 散歩に連れて行く", "", "walked", "the", "hpfwrm", "day part"),
    ("take care of {}", "の世話を する", "", "pet, livestock", "the", "hpfrm", "day"),
    ("play with {}", "と 遊ぶ", "", "huggable", "the", "hpfwgnyk", "day part"),
    ("touch {}", "に 触る/5", "", "touchable", "a", "pwnye", "day"),
    ("hug {}", "を 抱きしめる/1", "", "huggable", "the", "pwg", "near part"),
    ("draw {}", "の絵を 描く", "", "animal, flower", "a", "pfwgs", "day"),
    ("take a picture of {}", "の写真を 撮る/5", "", "photographed", "a", "pfwg", "day"),
    # food
    ("eat {}", "を 食べる/1", "", "edible", "a", "hpfwrnygelbk", "day part"),
    ("eat {}", "を 食べる/1", "", "meal", "bare", "hpfgwm", "day"),
    ("drink {}", "を 飲む", "", "drinkable", "bare", "hpfwrnygelbk", "day part"),
    ("make {}", "を 作る/5", "", "cookable", "many", "hpfwgcekls", "day"),
    ("make {}", "を 作る/5", "", "meal", "bare", "hpfgms", "day"),
    ("bake {}", "を 焼く", "", "bakeable", "many", "hpfwgcekls", "day part"),
    ("cut {}", "を 切る/5", "", "cuttable", "the", "prgm", "near"),
    ("order {}", "を 注文する", "", "orderable", "a", "pwlb", "day"),
    ("buy {}", "を 買う", "", "groceries", "many", "hpfwml", "day part"),
    # school
    ("study {}", "を 勉強する", "", "studied", "bare", "hpfwgmkslb", "day part long"),
    ("teach {}", "を 教える/1", "", "studied", "bare", "hpfwgs", "day long"),
    ("speak {}", "を 話す", "", "language", "bare", "cgw", "day"),
    ("buy {}", "を 買う", "", "stationery", "a", "pfwm", "day"),
    ("borrow {}", "を 借りる/1", "", "stationery", "a", "py", "day"),
    ("use {}", "を 使う", "", "stationery", "the", "prny", "near part"),
    ("write {}", "を 書く", "", "essay, sentence", "a", "pfgmw", "day"),
    ("take {}", "を 受ける/1", "", "test", "a", "pfmw", "day"),
    ("do {}", "を する", "", "homework", "own", "hpfgmsr", "day part"),
    ("forget {}", "を 忘れる/1", "", "homework, textbook, notebook, dictionary", "own", "p", "day"),
    ("memorize {}", "を 覚える/1", "", "learned item", "the", "mr", "day"),
    ("read {}", "を 読む", "", "textbook", "the", "hpfgmr", "day part"),
    # work
    ("write {}", "を 書く", "", "document, mail", "a", "pfgmws", "day part"),
    ("send {}", "を 送る/5", "", "mail, document", "the", "pfmr", "day part"),
    ("read {}", "を 読む", "", "document, mail", "the", "pfgmry", "day part"),
    ("check {}", "を 確認する", "", "document, mail", "the", "pfgmr", "day part"),
    ("copy {}", "を コピーする", "", "document", "the", "pfgmr", "day part"),
    ("use {}", "を 使う", "", "office machine", "the", "hprny", "near part"),
    ("buy {}", "を 買う", "", "personal machine", "a", "pfw", "day"),
    ("attend {}", "に 出席する", "", "work event", "a", "pfmw", "day"),
    ("work", " 働く", "work", "", "bare", "hpfgms", "day"),
    # travel
    ("drive {}", "を 運転する", "", "drivable", "one", "cwgkpe", "day"),
    ("ride {}", "に 乗る/5", "", "ridable", "one", "cwkephl", "day"),
    ("take {}", "に 乗る/5", "", "bus, train, taxi, plane, ship", "a", "pfwehm", "day"),
    ("buy {}", "を 買う", "", "vehicle", "a", "pfw", "day long"),
    ("wash {}", "を 洗う", "", "vehicle", "the", "pfgmr", "day"),
    ("visit {}", "を 訪れる/1", "", "city, country", "bare", "pfwe", "long"),
    ("visit {}", "を 訪れる/1", "", "sight", "a", "pfwel", "day"),
    ("look for {}", "を 探す", "", "station, hotel, bus stop, passport, ticket", "the", "pg", "day"),
    ("buy {}", "を 買う", "", "map, ticket, suitcase, souvenir, guidebook", "a", "pfwml", "day"),
    ("lose {}", "を なくす", "", "passport, ticket, map, suitcase", "own", "p", "day"),
    ("travel", " 旅行する", "travel", "", "bare", "hfwgk", "long"),
    # nature
    ("see {}", "を 見る/1", "", "star, rainbow, waterfall", "a", "pwel", "day"),
    ("look at {}", "を 眺める/1", "", "sky thing", "the", "hpgk", "day"),
    ("plant {}", "を 植える/1", "", "grown", "a", "pfwgcls", "day"),
    ("water {}", "に水を やる/5", "", "flower, tree", "the", "hpfgmr", "near part"),
    ("climb {}", "に 登る/5", "", "mountain", "a", "pfwek", "day long"),
    ("pick {}", "を 摘む", "", "flower", "the", "pfgn", "day"),
    ("swim in {}", "で 泳ぐ", "", "swum", "the", "hpfwenkyl", "day"),
    ("walk in {}", "を 歩く", "", "forest", "the", "hpfwgk", "day"),
    # home
    ("clean {}", "を 掃除する", "", "room", "the", "hpfgmrs", "day part"),
    ("open {}", "を 開ける/1", "", "opening, curtains", "the", "hprnyg", "near part"),
    ("close {}", "を 閉める/1", "", "opening, curtains", "the", "hprnyg", "near part"),
    ("wash {}", "を 洗う", "", "tableware, curtains, blanket, towel, dishes", "the", "pfgmr", "day"),
    ("fold {}", "を たたむ", "", "laundry, towel, blanket", "the", "hpfgmr", "near part"),
    ("take out {}", "を 出す", "", "trash", "the", "hpfmr", "day part"),
    ("buy {}", "を 買う", "", "household goods, dwelling", "a", "pfw", "day"),
    ("repair {}", "を 修理する", "", "repaired", "the", "pfgcmr", "day"),
    ("turn on {}", "を つける/1", "", "switched", "the", "prny", "near part"),
    ("turn off {}", "を 消す", "", "switched", "the", "prny", "near part"),
    ("move {}", "を 動かす", "", "movable", "the", "pfgrn", "near part"),
    ("use {}", "を 使う", "", "machine in use, tableware, towel, blanket", "the", "prny", "near part"),
    ("break {}", "を 壊す", "", "appliance, clock, chair, door, shelf", "the", "p", "day"),
    ("look for {}", "を 探す", "", "apartment, house", "a", "pg", "day"),
    ("watch {}", "を 見る/1", "", "television", "bare", "hpgk", "day part"),
    # hobbies
    ("play {}", "を する", "", "sport", "bare", "hpfwgklsce", "day"),
    ("play {}", "を 弾く", "", "pluck instrument", "the", "hpfwgkc", "day"),
    ("play {}", "を 吹く", "", "wind instrument", "the", "hpfwgkc", "day"),
    ("practice {}", "を 練習する", "", "practised", "the", "hpfgmks", "day part"),
    ("learn {}", "を 習う", "", "martial art", "bare", "wfgps", "long"),
    ("read {}", "を 読む", "", "reading", "a", "hpfwgkrys", "day part"),
    ("buy {}", "を 買う", "", "reading, hobby thing", "a", "pfwl", "day"),
    ("borrow {}", "を 借りる/1", "", "reading, camera, racket", "a", "pfwy", "day"),
    ("write {}", "を 書く", "", "poem, novel", "a", "pfwgkse", "day"),
    ("sing {}", "を 歌う", "", "song", "a", "pfwgkl", "day"),
    ("watch {}", "を 見る/1", "", "show", "a", "hpfwgkly", "day"),
    ("watch {}", "を 見る/1", "", "watched match", "bare", "pgk", "day"),
    ("draw {}", "を 描く", "", "picture", "a", "hpfwgkls", "day"),
    ("take {}", "を 撮る/5", "", "photo", "a", "pfgkynl", "day"),
    ("listen to {}", "を 聴く", "", "music", "bare", "hpfwgkl", "day part"),
    ("listen to {}", "を 聴く", "", "song", "a", "pfwg", "day part"),
    ("use {}", "を 使う", "", "hobby thing", "the", "prny", "near part"),
    ("go to {}", "に 行く", "", "hobby event", "a", "pfwlme", "day"),
    ("dance", " 踊る/5", "hobbies", "", "bare", "hpgwks", "day"),
    # clothing
    ("wear {}", "を 着る/1", "", "wearable", "one", "hpwfnye", "day"),
    ("wear {}", "を はく", "", "put on below", "one", "hpwfn", "day"),
    ("wear {}", "を かぶる/5", "", "headwear", "one", "hpwfn", "day"),
    ("wear {}", "を かける/1", "", "eyewear", "one", "hpf", "day"),
    ("wear {}", "を する", "", "tied on", "one", "hpf", "day"),
    ("take off {}", "を 脱ぐ", "", "taken off", "own", "prny", "near part"),
    ("buy {}", "を 買う", "", "clothes for sale", "a", "pfw", "day"),
    ("sell {}", "を 売る/5", "", "clothes for sale", "the", "pfg", "day"),
    ("try on {}", "を 試着する", "", "wearable, below the waist", "the", "pfgyr", "day"),
    ("wash {}", "を 洗う", "", "washable clothes", "the", "pfgmr", "day"),
    ("iron {}", "にアイロンを かける/1", "", "ironed", "the", "pfgmr", "day"),
    ("sew {}", "を 縫う", "", "sewn", "a", "pfwgcs", "day"),
    ("knit {}", "を 編む", "", "knitted", "a", "pfwgcs", "day"),
    ("lose {}", "を なくす", "", "lost thing", "own", "p", "day"),
    ("look for {}", "を 探す", "", "lost thing", "own", "pg", "day"),
    ("borrow {}", "を 借りる/1", "", "umbrella, tie, coat, suit, bag", "a", "pfy", "day"),
    # health
    ("wash {}", "を 洗う", "", "face, hair, hands", "own", "hpgmr", "day part"),
    ("brush {}", "を 磨く", "", "teeth", "own", "hpgmr", "day part"),
    ("take {}", "を 飲む", "", "remedy", "bare", "hpfmrg", "day part"),
    ("buy {}", "を 買う", "", "remedy, mask, bandage, thermometer", "a", "pfwm", "day"),
    ("hurt {}", "を 痛める/1", "", "shoulder, arm, leg", "own", "p", "day"),
    ("break {}", "を 折る/5", "", "arm, leg", "own", "p", "day"),
    ("rest", " 休む", "health", "", "bare", "pfwmr", "day"),
    ("exercise", " 運動する", "health", "", "bare", "hpfgmks", "day"),
)


def _objects(text: str) -> tuple[Noun, ...]:
    """Reads a list of single nouns and classes; a name that is both is the noun."""
    members: dict[Noun, None] = {}
    for name in filter(None, (part.strip() for part in text.split(","))):
        members.update(dict.fromkeys((NOUNS[name],) if name in NOUNS else nouns_of(name)))
    return tuple(members)


def _read_rows() -> tuple[Action, ...]:
    actions = []
    for english, japanese, topic, objects, determiner, frames, times in _ROWS:
        particle, _, dictionary = japanese.partition(" ")
        action = Action(
            english, particle, verb(dictionary), _objects(objects), topic, determiner, frames, tuple(times.split())
        )
        if unknown := set(frames) - set(FRAME_LETTERS):
            raise ValueError(f"`frames` must use the letters of FRAME_LETTERS, got {sorted(unknown)} for {english!r}")
        actions.append(action)
    return tuple(actions)


ACTIONS: tuple[Action, ...] = _read_rows()


def actions_for(letter: str) -> tuple[Action, ...]:
    """Returns the actions that are natural in the frames marked by `letter`."""
    return tuple(action for action in ACTIONS if letter in action.frames)
