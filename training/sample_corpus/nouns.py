"""The nouns of the sample corpus, in groups that share topic, grammar and counter.

Every noun belongs to one topic, so a sentence whose nouns all come from one topic has that topic for a label.
A row reads `english:日本語`; an irregular or unusual counter may follow as `english:日本語:匹`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

NounKind = Literal["count", "mass", "pair", "bare", "the"]

TOPICS: tuple[str, ...] = (
    "animals",
    "food",
    "people",
    "school",
    "work",
    "travel",
    "nature",
    "home",
    "hobbies",
    "clothing",
    "health",
)


@dataclass(frozen=True, eq=False)
class Noun:
    """A noun with what grammar needs to know about it.

    Attributes:
        english: Singular form ("shoe" for a pair noun is never used: pair nouns are stored in the plural).
        japanese: As ordinarily written.
        topic: One of `TOPICS`.
        kind: `"count"` (a dog), `"mass"` (bread), `"pair"` (shoes), `"bare"` (soccer, Kyoto: no determiner ever)
            or `"the"` (the sky, the piano: always definite).
        counter: Japanese counter, for example 匹.
        classes: Names of the semantic classes the noun belongs to; its group is one of them.
    """

    english: str
    japanese: str
    topic: str
    kind: NounKind
    counter: str
    classes: frozenset[str]

    @property
    def key(self) -> str:
        """The name of the word in the held-out split."""
        return f"noun:{self.english}"


# (group, topic, kind, counter, rows)
_GROUPS: tuple[tuple[str, str, NounKind, str, str], ...] = (
    (
        "pet",
        "animals",
        "count",
        "匹",
        "dog:犬 cat:猫 rabbit:うさぎ turtle:カメ bird:鳥:羽 puppy:子犬 kitten:子猫 goldfish:金魚",
    ),
    ("livestock", "animals", "count", "頭", "horse:馬 cow:牛 pig:豚 sheep:羊 goat:ヤギ"),
    (
        "wild animal",
        "animals",
        "count",
        "頭",
        "elephant:ゾウ lion:ライオン tiger:トラ bear:クマ monkey:サル:匹 giraffe:キリン"
        " panda:パンダ fox:キツネ:匹 penguin:ペンギン:羽"
        " koala:コアラ deer:シカ"
        " ",
    ),
    ("sea animal", "animals", "count", "頭", "dolphin:イルカ whale:クジラ seal:アザラシ"),
    (
        "small animal",
        "animals",
        "count",
        "匹",
        "mouse:ネズミ squirrel:リス frog:カエル snake:ヘビ duck:アヒル:羽 crow:カラス:羽 butterfly:チョウ",
    ),
    ("animal place", "animals", "the", "", "zoo:動物園 aquarium:水族館 farm:牧場"),
    (
        "fruit",
        "food",
        "count",
        "つ",
        "apple:りんご orange:オレンジ banana:バナナ:本 peach:桃 pear:梨 lemon:レモン strawberry:いちご",
    ),
    (
        "vegetable",
        "food",
        "count",
        "つ",
        "tomato:トマト potato:じゃがいも carrot:にんじん:本 onion:玉ねぎ cucumber:きゅうり:本",
    ),
    (
        "snack",
        "food",
        "count",
        "つ",
        "sandwich:サンドイッチ hamburger:ハンバーガー cake:ケーキ cookie:クッキー:枚"
        " pancake:パンケーキ:枚 rice_ball:おにぎり egg:卵",
    ),
    (
        "dish",
        "food",
        "mass",
        "",
        "sushi:寿司 tempura:天ぷら ramen:ラーメン curry:カレー pizza:ピザ salad:サラダ spaghetti:スパゲッティ",
    ),
    (
        "ingredient",
        "food",
        "mass",
        "",
        "bread:パン rice:ご飯 meat:肉 fish:魚 chicken:鶏肉 beef:牛肉 pork:豚肉 cheese:チーズ"
        " cabbage:キャベツ tofu:豆腐 melon:メロン"
        " chocolate:チョコレート ice_cream:アイスクリーム fruit:果物",
    ),
    ("meal", "food", "bare", "", "breakfast:朝ご飯 lunch:昼ご飯 dinner:晩ご飯"),
    ("cup drink", "food", "mass", "杯", "coffee:コーヒー green_tea:緑茶 black_tea:紅茶 cocoa:ココア"),
    ("glass drink", "food", "mass", "杯", "water:水 milk:牛乳 juice:ジュース beer:ビール wine:ワイン sake:日本酒"),
    ("food shop", "food", "the", "", "bakery:パン屋 supermarket:スーパー"),
    ("eating place", "food", "count", "軒", "restaurant:レストラン cafe:カフェ"),
    ("classmate", "school", "count", "人", "classmate:同級生 student:学生"),
    (
        "language",
        "school",
        "bare",
        "",
        "English:英語 Japanese:日本語 French:フランス語 Chinese:中国語 German:ドイツ語"
        " Spanish:スペイン語 Korean:韓国語 Italian:イタリア語",
    ),
    (
        "subject",
        "school",
        "bare",
        "",
        "math:数学 history:歴史 science:理科 geography:地理 physics:物理 ",
    ),
    (
        "stationery",
        "school",
        "count",
        "本",
        "pencil:鉛筆 pen:ペン eraser:消しゴム:つ notebook:ノート:冊 dictionary:辞書:冊 textbook:教科書:冊",
    ),
    ("school task", "school", "count", "つ", "essay:作文 test:テスト"),
    ("school thing", "school", "mass", "", "homework:宿題"),
    ("learned item", "school", "count", "つ", "word:単語 sentence:文"),
    ("school place", "school", "the", "", "classroom:教室 library:図書館 cafeteria:食堂"),
    (
        "occupation",
        "work",
        "count",
        "人",
        "doctor:医者 nurse:看護師 engineer:エンジニア lawyer:弁護士 teacher:教師"
        " police_officer:警察官 firefighter:消防士 writer:作家 journalist:記者 pilot:パイロット"
        " programmer:プログラマー actor:俳優"
        " ",
    ),
    ("document", "work", "count", "つ", "report:報告書 contract:契約書"),
    ("mail", "work", "count", "通", "email:メール"),
    (
        "office machine",
        "work",
        "count",
        "台",
        "computer:パソコン printer:プリンター copier:コピー機 laptop:ノートパソコン",
    ),
    (
        "work place",
        "work",
        "the",
        "",
        "office:会社 factory:工場 bank:銀行 post_office:郵便局",
    ),
    ("work event", "work", "count", "つ", "meeting:会議 interview:面接"),
    ("vehicle", "travel", "count", "台", "car:車 bicycle:自転車 motorcycle:バイク truck:トラック"),
    ("public transport", "travel", "count", "", "bus:バス train:電車 taxi:タクシー ship:船 plane:飛行機"),
    (
        "city",
        "travel",
        "bare",
        "",
        "Tokyo:東京 Kyoto:京都 Osaka:大阪 Yokohama:横浜 Paris:パリ London:ロンドン Rome:ローマ New_York:ニューヨーク ",
    ),
    (
        "country",
        "travel",
        "bare",
        "",
        "France:フランス Italy:イタリア China:中国 Germany:ドイツ Canada:カナダ Australia:オーストラリア",
    ),
    (
        "town place",
        "travel",
        "the",
        "",
        "station:駅 airport:空港 hotel:ホテル museum:博物館 temple:お寺 shrine:神社 castle:お城 bus_stop:バス停",
    ),
    (
        "travel thing",
        "travel",
        "count",
        "つ",
        "map:地図:枚 ticket:切符:枚 suitcase:スーツケース passport:パスポート:冊"
        " guidebook:ガイドブック:冊 souvenir:お土産",
    ),
    (
        "flower",
        "nature",
        "count",
        "本",
        "rose:バラ tulip:チューリップ sunflower:ひまわり lily:ユリ flower:花",
    ),
    (
        "landscape",
        "nature",
        "count",
        "つ",
        "mountain:山 river:川 lake:湖 forest:森 island:島 waterfall:滝 beach:浜辺",
    ),
    ("sky thing", "nature", "the", "", "moon:月 sky:空 sunset:夕日 sea:海"),
    ("sky count", "nature", "count", "つ", "star:星 cloud:雲 rainbow:虹"),
    ("plant", "nature", "count", "本", "tree:木"),
    ("season", "nature", "bare", "", "spring:春 summer:夏 autumn:秋 winter:冬"),
    (
        "room",
        "home",
        "the",
        "",
        "kitchen:台所 bedroom:寝室 living_room:居間 bathroom:浴室",
    ),
    ("opening", "home", "the", "", "window:窓 door:ドア gate:門 drawer:引き出し"),
    ("hanging", "home", "pair", "組", "curtains:カーテン"),
    (
        "furniture",
        "home",
        "count",
        "つ",
        "table:テーブル chair:椅子 desk:机 bed:ベッド sofa:ソファー shelf:棚 bookcase:本棚",
    ),
    (
        "appliance",
        "home",
        "count",
        "台",
        "washing_machine:洗濯機 refrigerator:冷蔵庫 vacuum_cleaner:掃除機 fan:扇風機"
        " air_conditioner:エアコン television:テレビ",
    ),
    (
        "tableware",
        "home",
        "count",
        "枚",
        "plate:皿 cup:カップ:つ bowl:茶碗:つ spoon:スプーン:本 fork:フォーク:本 knife:ナイフ:本",
    ),
    (
        "furnishing",
        "home",
        "count",
        "つ",
        "clock:時計 mirror:鏡:枚 pillow:枕 blanket:毛布:枚 towel:タオル:枚 vase:花瓶 lamp:ランプ box:箱",
    ),
    ("chore", "home", "the", "", "dishes:食器 laundry:洗濯物 trash:ごみ floor:床"),
    ("dwelling", "home", "count", "軒", "house:家 apartment:アパート"),
    (
        "sport",
        "hobbies",
        "bare",
        "",
        "soccer:サッカー baseball:野球 tennis:テニス basketball:バスケットボール"
        " volleyball:バレーボール"
        " chess:チェス shogi:将棋",
    ),
    ("martial art", "hobbies", "bare", "", "judo:柔道 karate:空手 kendo:剣道"),
    (
        "pluck instrument",
        "hobbies",
        "the",
        "",
        "piano:ピアノ guitar:ギター violin:バイオリン",
    ),
    (
        "wind instrument",
        "hobbies",
        "the",
        "",
        "flute:フルート trumpet:トランペット",
    ),
    ("reading", "hobbies", "count", "冊", "book:本 novel:小説 magazine:雑誌 comic_book:漫画 picture_book:絵本"),
    ("writing", "hobbies", "count", "つ", "poem:詩 song:歌:曲"),
    ("show", "hobbies", "count", "本", "movie:映画 drama:ドラマ cartoon:アニメ"),
    ("picture", "hobbies", "count", "枚", "picture:絵 photo:写真"),
    ("music", "hobbies", "bare", "", "music:音楽 jazz:ジャズ classical_music:クラシック音楽 rock_music:ロック"),
    ("hobby thing", "hobbies", "count", "つ", "camera:カメラ:台 ball:ボール racket:ラケット:本"),
    ("hobby event", "hobbies", "count", "つ", "concert:コンサート exhibition:展覧会 festival:お祭り"),
    ("top", "clothing", "count", "枚", "shirt:シャツ T-shirt:Tシャツ sweater:セーター"),
    (
        "outer",
        "clothing",
        "count",
        "着",
        "coat:コート jacket:ジャケット dress:ドレス suit:スーツ kimono:着物 yukata:浴衣",
    ),
    ("skirt", "clothing", "count", "枚", "skirt:スカート"),
    ("legwear", "clothing", "pair", "本", "pants:ズボン jeans:ジーンズ"),
    ("footwear", "clothing", "pair", "足", "shoes:靴 socks:靴下 boots:ブーツ sandals:サンダル slippers:スリッパ"),
    ("headwear", "clothing", "count", "つ", "hat:帽子"),
    ("eyewear", "clothing", "pair", "つ", "glasses:眼鏡 sunglasses:サングラス"),
    (
        "accessory",
        "clothing",
        "count",
        "本",
        "tie:ネクタイ scarf:マフラー necklace:ネックレス ring:指輪:つ watch:腕時計:つ",
    ),
    ("pair accessory", "clothing", "pair", "組", "gloves:手袋 earrings:イヤリング"),
    (
        "carried",
        "clothing",
        "count",
        "つ",
        "bag:かばん wallet:財布 umbrella:傘:本 handkerchief:ハンカチ:枚",
    ),
    ("clothing shop", "clothing", "count", "軒", "shoe_store:靴屋 clothing_store:洋服屋"),
    (
        "body part",
        "health",
        "count",
        "",
        "head:頭 stomach:お腹 throat:のど back:背中 shoulder:肩 arm:腕 ear:耳 leg:足 tooth:歯 eye:目",
    ),
    ("washed part", "health", "bare", "", "hands:手 hair:髪 teeth:歯"),
    ("washed face", "health", "count", "", "face:顔"),
    ("remedy", "health", "mass", "", "medicine:薬 cold_medicine:風邪薬"),
    ("ailment", "health", "count", "", "cold:風邪 fever:熱 cough:咳 headache:頭痛 toothache:歯痛 stomachache:腹痛"),
    ("health place", "health", "the", "", "hospital:病院 pharmacy:薬局 clinic:診療所"),
    ("care thing", "health", "count", "枚", "mask:マスク bandage:包帯:本 thermometer:体温計:本"),
)

# Classes that cut across the groups: name → English words of the nouns, or names of groups after a"+".
_CLASSES: dict[str, str] = {
    "edible": "+snack +dish +ingredient apple orange banana peach pear strawberry tomato carrot cucumber",
    "drinkable": "+cup_drink +glass_drink",
    "cookable": "sandwich hamburger cake cookie pancake rice_ball sushi tempura ramen curry pizza salad spaghetti",
    "bakeable": "bread cake cookie pizza",
    "cuttable": "tomato potato carrot onion cucumber cabbage apple melon lemon meat bread cheese cake",
    "orderable": "+dish sandwich hamburger cake pancake coffee beer wine black_tea juice cocoa",
    "groceries": "+fruit +vegetable +ingredient +glass_drink egg cookie cake sandwich rice_ball",
    "countable food": "+fruit +vegetable +snack",
    "animal": "+pet +livestock +wild_animal +sea_animal +small_animal",
    "zoo animal": "+wild_animal",
    "farm animal": "+livestock",
    "huggable": "dog cat rabbit puppy kitten",
    "walked": "dog puppy",
    "fed": "dog cat rabbit turtle bird puppy kitten goldfish horse cow pig sheep goat duck",
    "garden animal": "cat dog rabbit bird frog snake squirrel crow butterfly puppy kitten",
    "street transport": "car bicycle motorcycle bus train taxi truck",
    "drivable": "car truck bus taxi",
    "touchable": "dog cat rabbit turtle puppy kitten koala horse sheep goat cow elephant panda dolphin",
    "ridable": "bicycle motorcycle",
    "town transport": "bus train taxi car bicycle motorcycle",
    "destination": "+city +country +town_place",
    "sight": "museum temple shrine castle",
    "wearable": "+top +outer",
    "put on below": "+skirt boots sandals slippers jeans",
    "below the waist": "+skirt +legwear +footwear",
    "tied on": "+accessory +pair_accessory",
    "worn": "+top +outer +skirt +legwear +footwear +headwear +eyewear +accessory +pair_accessory",
    "taken off": "+top +outer +legwear +footwear +headwear",
    "washable clothes": "+top +skirt +legwear socks gloves scarf yukata handkerchief",
    "ironed": "shirt skirt pants handkerchief T-shirt dress",
    "knitted": "sweater scarf gloves socks hat",
    "sewn": "shirt skirt dress kimono yukata bag",
    "clothes for sale": "+worn +carried",
    "lost thing": "umbrella wallet ring hat gloves handkerchief watch scarf bag glasses necklace",
    "cafe food": "cake sandwich pancake salad spaghetti ice_cream",
    "ticket only": "ticket",
    "travel souvenirs": "souvenir guidebook map suitcase",
    "aquarium animal": "dolphin seal penguin turtle",
    "park animal": "cat dog bird squirrel crow butterfly puppy",
    "kitchen thing": "refrigerator table chair shelf clock",
    "bedroom thing": "bed desk chair mirror lamp clock bookcase fan",
    "living room thing": "sofa television table lamp clock vase bookcase",
    "desk thing": "lamp clock cup vase box",
    "tree only": "tree",
    "garden plant": "rose tulip sunflower lily flower",
    "student only": "student",
    "station to station": "station airport hotel museum temple shrine castle",
    "road transport": "bus taxi car",
    "kept long": "dog cat rabbit turtle bird goldfish",
    "lesson": "math history science geography English",
    "tasted": "+dish sake wine beer green_tea black_tea tofu rice_ball cheese",
    "worn on occasion": "kimono yukata suit dress",
    "soft drink": "water milk juice coffee green_tea black_tea cocoa",
    "alcohol": "beer wine sake",
    "named flower": "rose tulip sunflower lily",
    "machine in use": "washing_machine vacuum_cleaner fan air_conditioner",
    "daily goal": "library office cafe supermarket bakery",
    "weekly goal": "zoo aquarium museum shrine temple library cafe restaurant supermarket sea",
    "been to": "+city +country zoo aquarium",
    "favorite animal": "dog cat rabbit horse dolphin whale +wild_animal",
    "music genre": "jazz classical_music rock_music",
    "gift": "+reading +flower pen notebook dictionary cup clock vase lamp blanket towel cake",
    "owned in number": "+top +skirt +legwear +footwear +headwear +stationery +reading +tableware"
    " bag watch chair camera umbrella ring"
    " racket clock towel blanket",
    "office thing": "+office_machine",
    "fridge food": "apple orange peach lemon tomato carrot onion egg potato",
    "nearby nature": "lake river beach mountain forest",
    "placed thing": "clock pillow vase lamp box towel blanket",
    "goal": "library office sea",
    "town goal": "library zoo aquarium post_office",
    "abroad": "Paris London Rome New_York",
    "personal machine": "computer printer laptop",
    "starting": "meeting interview concert movie drama test festival",
    "opening hours": "library post_office museum supermarket bakery pharmacy shoe_store clothing_store zoo clinic",
    "timetabled": "bus train plane ship",
    "employer": "bank factory post_office",
    "climbed": "mountain",
    "swum": "sea river lake",
    "viewed": "+sky_thing star rainbow cloud waterfall mountain lake",
    "grown": "+flower tree",
    "photographed": "+pet +livestock +wild_animal +sea_animal +small_animal +flower +landscape +sky_thing +sky_count"
    " museum temple shrine castle",
    "repaired": "+appliance chair table door clock bed",
    "cleaned": "+room",
    "switched": "television air_conditioner fan lamp",
    "household goods": "+furniture +appliance +tableware +furnishing",
    "movable": "+furniture box mirror vase lamp fan",
    "borrowed school": "+stationery",
    "studied": "+language +subject",
    "play thing": "ball racket camera",
    "team sport": "soccer baseball tennis basketball volleyball",
    "watched match": "soccer baseball tennis basketball volleyball",
    "practised": "+sport +martial_art +pluck_instrument +wind_instrument",
}


def _read_groups() -> dict[str, Noun]:
    extra: dict[str, set[str]] = {}
    for name, members in _CLASSES.items():
        for member in members.split():
            extra.setdefault(member, set()).add(name)
    nouns: dict[str, Noun] = {}
    for group, topic, kind, counter, rows in _GROUPS:
        inherited = extra.get("+" + group.replace(" ", "_"), set())
        for row in rows.split():
            name, japanese, *own_counter = row.split(":")
            english = name.replace("_", " ")
            if english in nouns:
                raise ValueError(f"a noun must stand in one group only, got {english!r} in {group!r} again")
            classes = frozenset({group} | inherited | extra.get(name, set()))
            nouns[english] = Noun(english, japanese, topic, kind, own_counter[0] if own_counter else counter, classes)
    return nouns


NOUNS: dict[str, Noun] = _read_groups()


@cache
def nouns_of(*classes: str) -> tuple[Noun, ...]:
    """Returns the nouns that belong to at least one of `classes`, in the order of the tables.

    Raises:
        ValueError: If a class has no member.
    """
    members = tuple(noun for noun in NOUNS.values() if noun.classes.intersection(classes))
    for name in classes:
        if not any(name in noun.classes for noun in members):
            raise ValueError(f"`classes` must name classes of nouns, got {name!r} which has no member")
    return members
