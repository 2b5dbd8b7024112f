"""The adjectives of the sample corpus and the nouns each of them may describe.

One Japanese adjective may need two English ones (高い: expensive goods, high mountains); the noun decides which, so a
sentence always has one reading.
"""

from dataclasses import dataclass

from kakehashi.training.sample_corpus.japanese import Predicate, copula, i_adjective, i_stem
from kakehashi.training.sample_corpus.nouns import NOUNS, Noun, nouns_of


@dataclass(frozen=True, eq=False)
class Adjective:
    """An adjective with what it may describe.

    Attributes:
        english: Positive form.
        japanese: Dictionary form; na-adjectives without な.
        is_na: Whether it is a na-adjective.
        nouns: The nouns it may describe.
        is_changeable: Whether a thing can become so, as 部屋がきれいになりました.
    """

    english: str
    japanese: str
    is_na: bool
    nouns: tuple[Noun, ...]
    is_changeable: bool = False

    @property
    def key(self) -> str:
        """The name of the word in the held-out split."""
        return f"adjective:{self.english}:{self.japanese}"

    def predicate(self, *, negative: bool = False, past: bool = False) -> Predicate:
        """Returns the predicate: 大きいです, 大きくないです, きれいです."""
        conjugate = copula if self.is_na else i_adjective
        return conjugate(self.japanese, negative=negative, past=past)

    @property
    def before_noun(self) -> str:
        """The form before a noun: 大きい, きれいな."""
        return self.japanese + ("な" if self.is_na else "")

    @property
    def before_verb(self) -> str:
        """The form before なる: 大きく, きれいに."""
        return self.japanese + "に" if self.is_na else i_stem(self.japanese) + "く"

    @property
    def stem(self) -> str:
        """The form before すぎる and そう: 大き, きれい, よ (from いい)."""
        return self.japanese if self.is_na else i_stem(self.japanese)

    @property
    def connective(self) -> str:
        """The form before かったので, だったので: the plain past."""
        return self.predicate(past=True).plain[0]


_FURNISHED = "furniture, tableware, furnishing"
_WORN = "top, outer, skirt, legwear, footwear, headwear, accessory, carried"
_GOODS = f"{_FURNISHED}, appliance, vehicle, office machine, stationery, hobby thing, {_WORN}"

# (english, 日本語, classes of nouns, single nouns); a trailing な marks a na-adjective,
# "*" what things may become.
_ROWS: tuple[tuple[str, str, str, str], ...] = (
    (
        "big",
        "大きい",
        f"livestock, fruit, vegetable, {_FURNISHED}, dwelling, top, outer, headwear, footwear, plant",
        "dog, cat, elephant, bear, whale, bag, suitcase, map, river, lake, island, flower, refrigerator, television",
    ),
    (
        "small",
        "小さい",
        f"pet, fruit, vegetable, {_FURNISHED}, dwelling, top, outer, headwear, footwear",
        "mouse, bag, suitcase, map, island, flower, refrigerator, television, laptop, squirrel, frog, camera",
    ),
    ("new", "新しい", f"dwelling, reading, show, eyewear, {_GOODS}", "map, suitcase, passport, guidebook, song, mask"),
    ("old", "古い", f"dwelling, reading, show, sight, {_GOODS}", "map, suitcase, guidebook, song"),
    ("expensive", "高い", f"{_GOODS}, eyewear, fruit", "ticket, suitcase, sushi, wine, meat, fish, cheese"),
    (
        "cheap",
        "安い",
        f"{_GOODS}, fruit, vegetable",
        "ticket, suitcase, sushi, wine, meat, fish, pork, chicken",
    ),
    (
        "cute",
        "かわいい",
        "pet, top, skirt, headwear, carried",
        "koala, panda, squirrel, penguin, dolphin, deer, slippers, earrings, ring, dress",
    ),
    ("smart", "賢い", "", "dog, cat, dolphin, monkey, horse, crow"),
    (
        "gentle",
        "おとなしい",
        "",
        "dog, cat, rabbit, horse, cow, sheep, goat, koala, turtle, elephant",
    ),
    ("scary", "怖い", "show", "lion, tiger, bear, snake, novel, comic book"),
    ("delicious", "おいしい", "fruit, vegetable, snack, dish, ingredient, cup drink, glass drink", ""),
    (
        "sweet",
        "甘い",
        "fruit",
        "cake, cookie, pancake, chocolate, ice cream, juice, cocoa, tomato, wine, sake",
    ),
    ("spicy", "辛い", "", "curry, ramen, spaghetti, chicken, pizza"),
    ("sour", "酸っぱい", "", "orange, lemon, strawberry, apple, tomato, juice, pear, peach"),
    ("bitter", "苦い", "", "coffee, green tea, black tea, beer, chocolate, medicine, cold medicine"),
    ("salty", "しょっぱい", "", "ramen, cheese, fish, curry, rice ball, pizza"),
    ("fresh", "新鮮な", "fruit, vegetable", "fish, meat, milk, egg, salad, cabbage, pork, beef, chicken"),
    ("soft", "柔らかい", "", "bread, meat, cake, pillow, blanket, towel, bed, sofa, tofu, pancake, beef"),
    ("hard", "硬い", "", "bread, meat, pillow, bed, chair, sofa, cookie"),
    ("hot", "熱い", "cup drink", "ramen, curry, pizza, rice"),
    ("cold", "冷たい", "", "water, milk, juice, beer, green tea, coffee, sake"),
    (
        "difficult",
        "難しい",
        "school task, learned item, reading, writing",
        "dictionary, textbook, report, contract, interview",
    ),
    ("easy", "簡単な", "school task, school thing, learned item", ""),
    ("interesting", "面白い", "reading, show, hobby event", "textbook, essay, guidebook, report"),
    ("boring", "退屈な", "reading, show", "meeting, textbook"),
    ("useful", "便利な", "appliance, office machine", "dictionary, map, guidebook, bicycle, car, bag, box"),
    ("important", "重要な", "document, work event, mail", "word, test"),
    (
        "long",
        "長い",
        "reading, show, skirt",
        "meeting, report, contract, river, coat, dress, scarf, email, essay, sentence, pencil, song, poem",
    ),
    (
        "short",
        "短い",
        "show, skirt",
        "novel, meeting, report, coat, dress, email, essay, sentence, pencil, song, poem",
    ),
    (
        "heavy",
        "重い",
        "furniture, appliance, office machine",
        "suitcase, bag, bicycle, dictionary, coat, box, motorcycle",
    ),
    (
        "light",
        "軽い",
        "footwear",
        "chair, table, suitcase, bag, bicycle, laptop, coat, jacket, blanket, umbrella, racket, camera",
    ),
    ("fast", "速い", "vehicle", "bus, train, plane, ship, computer, horse, printer"),
    ("slow", "遅い", "vehicle", "bus, train, ship, computer, turtle, printer"),
    (
        "famous",
        "有名な",
        "sight, reading, writing, show, picture",
        "hotel, mountain, waterfall, lake, island, restaurant, bakery",
    ),
    ("quiet", "静かな", "", "library, hotel, cafe, temple, forest, beach, lake, cat, apartment, train, restaurant"),
    (
        "beautiful",
        "美しい",
        "flower, landscape, sky thing, sky count, writing, picture",
        "castle, temple, kimono, tree, dress",
    ),
    ("clean", "きれいな*", "room", "hotel, river, lake, beach, restaurant, hospital"),
    ("dirty", "汚い*", "room", "shoes, river, lake, boots, beach, cup, towel"),
    ("spacious", "広い", "room, dwelling", "classroom, library, office, restaurant, supermarket, hospital"),
    ("cramped", "狭い", "room, dwelling", "classroom, office, cafe"),
    ("bright", "明るい*", "room", "moon, star, lamp, classroom, office"),
    ("dark", "暗い*", "room", "sky, forest, classroom"),
    ("warm", "暖かい*", "room", "sweater, coat, blanket, gloves, socks, jacket, scarf, classroom, boots"),
    ("high", "高い", "", "mountain, waterfall"),
    ("tall", "高い", "", "tree"),
    ("deep", "深い", "", "lake, river, sea, forest"),
    ("shallow", "浅い", "", "lake, river"),
    ("wide", "広い", "", "river, sea, beach"),
    ("dangerous", "危険な", "", "lion, tiger, bear, snake, river, motorcycle, mountain"),
    (
        "red",
        "赤い",
        "top, carried, footwear, vehicle",
        "rose, tulip, apple, tomato, dress, hat, flower, kimono",
    ),
    (
        "white",
        "白い",
        "top, carried, vehicle",
        "cat, dog, rabbit, horse, rose, lily, dress, cloud, flower, bird, plate",
    ),
    ("black", "黒い", "top, outer, legwear, carried, vehicle", "cat, dog, bird, shoes, boots, hat, horse, tie, desk"),
    ("blue", "青い", "top, carried, vehicle", "hat, sea, sky, bird, coat, dress, tie, vase, plate"),
    ("yellow", "黄色い", "top, carried", "hat, tulip, rose, bird, butterfly, flower, cup"),
    ("comfortable", "快適な", "", "bed, sofa, chair, hotel, apartment, house"),
)


def _read_rows() -> dict[str, Adjective]:
    adjectives: dict[str, Adjective] = {}
    for english, marked, classes, words in _ROWS:
        japanese = marked.removesuffix("*")
        class_names = [name.strip() for name in classes.split(",") if name.strip()]
        members = dict.fromkeys(nouns_of(*class_names) if class_names else ())
        members.update(dict.fromkeys(NOUNS[name.strip()] for name in words.split(",") if name.strip()))
        word = Adjective(english, japanese.removesuffix("な"), japanese.endswith("な"), tuple(members), "*" in marked)
        adjectives[english] = word
    return adjectives


ADJECTIVES: dict[str, Adjective] = _read_rows()
