import json
import re
from collections import Counter, defaultdict
from itertools import islice

import pytest

from kakehashi.training.sample_corpus import corpus_statistics, generate_pairs, split_pairs, write_sample_corpus
from kakehashi.training.sample_corpus import english as en
from kakehashi.training.sample_corpus.actions import ACTIONS, FRAME_LETTERS
from kakehashi.training.sample_corpus.adjectives import ADJECTIVES
from kakehashi.training.sample_corpus.adjuncts import count_words
from kakehashi.training.sample_corpus.corpus import combinations
from kakehashi.training.sample_corpus.japanese import (
    Verb,
    copula,
    i_adjective,
    tagatte_iru,
    tai,
    te_iru,
    verb,
)
from kakehashi.training.sample_corpus.nouns import NOUNS, TOPICS, nouns_of

NUM_PAIRS = 50_000

# dictionary form: polite, negative, te-form, plain past, ability, let us
KNOWN_VERBS = {
    "買う": ("買います", "買わない", "買って", "買った", "買える", "買おう"),
    "書く": ("書きます", "書かない", "書いて", "書いた", "書ける", "書こう"),
    "泳ぐ": ("泳ぎます", "泳がない", "泳いで", "泳いだ", "泳げる", "泳ごう"),
    "話す": ("話します", "話さない", "話して", "話した", "話せる", "話そう"),
    "待つ": ("待ちます", "待たない", "待って", "待った", "待てる", "待とう"),
    "死ぬ": ("死にます", "死なない", "死んで", "死んだ", "死ねる", "死のう"),
    "遊ぶ": ("遊びます", "遊ばない", "遊んで", "遊んだ", "遊べる", "遊ぼう"),
    "飲む": ("飲みます", "飲まない", "飲んで", "飲んだ", "飲める", "飲もう"),
    "帰る/5": ("帰ります", "帰らない", "帰って", "帰った", "帰れる", "帰ろう"),
    "食べる/1": ("食べます", "食べない", "食べて", "食べた", "食べられる", "食べよう"),
    "見る/1": ("見ます", "見ない", "見て", "見た", "見られる", "見よう"),
    "勉強する": ("勉強します", "勉強しない", "勉強して", "勉強した", "勉強できる", "勉強しよう"),
    "来る": ("来ます", "来ない", "来て", "来た", "来られる", "来よう"),
    "行く": ("行きます", "行かない", "行って", "行った", "行ける", "行こう"),
    "散歩に連れて行く": (
        "散歩に連れて行きます",
        "散歩に連れて行かない",
        "散歩に連れて行って",
        "散歩に連れて行った",
        "散歩に連れて行ける",
        "散歩に連れて行こう",
    ),
    "働く": ("働きます", "働かない", "働いて", "働いた", "働ける", "働こう"),
}


@pytest.fixture(scope="module")
def pairs():
    return list(islice(generate_pairs(0), NUM_PAIRS))


@pytest.fixture(scope="module")
def sample(pairs):
    return pairs[:10_000]


@pytest.fixture(scope="module")
def split():
    return split_pairs(seed=1, num_train_pairs=6_000, num_test_pairs=300)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_sample_corpus(tmp_path_factory.mktemp("corpus"), seed=1, num_train_pairs=6_000, num_test_pairs=300)


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("dictionary", KNOWN_VERBS)
def test_verbs_of_every_group_conjugate_as_known(dictionary):
    word = verb(dictionary)
    found = (word.present().polite[0], word.nai, word.te, word.ta, word.potential.dictionary, word.volitional)
    assert found == KNOWN_VERBS[dictionary]


def test_polite_and_plain_forms_of_one_verb_are_complete():
    word = verb("書く")
    assert (word.negative().polite[0], word.negative().plain) == ("書きません", ("書かない",))
    assert (word.past().polite[0], word.past().plain) == ("書きました", ("書いた",))
    assert (word.past_negative().polite[0], word.past_negative().plain) == ("書きませんでした", ("書かなかった",))
    assert word.present().polite_question == ("書きますか",)


def test_aru_has_nai_for_its_negative():
    assert verb("ある/5").nai == "ない"
    assert verb("ある/5").negative().polite[0] == "ありません"
    assert verb("ある/5").past_negative().plain == ("なかった",)


def test_wishes_and_states_build_on_the_verb():
    assert tai(verb("飲む")).polite == ("飲みたいです",)
    assert tai(verb("食べる/1"), negative=True, past=True).polite[0] == "食べたくなかったです"
    assert tagatte_iru(verb("行く")).present().polite == ("行きたがっています",)
    assert te_iru(verb("読む")).past().polite == ("読んでいました",)


def test_i_adjectives_conjugate_and_ii_goes_by_yoi():
    assert i_adjective("大きい").polite == ("大きいです",)
    assert i_adjective("大きい", negative=True).polite == ("大きくないです", "大きくありません")
    assert i_adjective("大きい", past=True).plain == ("大きかった",)
    assert i_adjective("いい", past=True).polite == ("よかったです",)
    assert i_adjective("いい", negative=True).plain == ("よくない",)
    assert i_adjective("頭がいい", negative=True, past=True).plain == ("頭がよくなかった",)
    assert i_adjective("かわいい", past=True).plain == ("かわいかった",)


def test_the_copula_has_both_levels_of_politeness():
    assert (copula("静か").polite, copula("静か").plain) == (("静かです",), ("静かだ",))
    assert copula("静か").plain_question == ("静か",)
    assert copula("学生", negative=True).polite[0] == "学生ではありません"
    assert copula("元気", past=True).polite == ("元気でした",)
    assert copula("元気", negative=True, past=True).plain[0] == "元気ではなかった"


@pytest.mark.parametrize("text", ["着る", "食べ/1", "大きい/5"])
def test_a_verb_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="verb"):
        verb(text)


def test_an_adjective_without_i_is_refused():
    with pytest.raises(ValueError, match="静か"):
        i_adjective("静か")
    with pytest.raises(ValueError, match="dictionary"):
        Verb("飲む", "ichidan")


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (en.plural, {"cat": "cats", "bus": "buses", "mouse": "mice", "puppy": "puppies", "shelf": "shelves"}),
        (en.plural, {"toothbrush": "toothbrushes", "police officer": "police officers", "piano": "pianos"}),
        (en.plural, {"tomato": "tomatoes", "knife": "knives", "sheep": "sheep", "scarf": "scarves"}),
        (en.third_person, {"eat": "eats", "watch": "watches", "study": "studies", "play": "plays", "have": "has"}),
        (en.third_person, {"take care of": "takes care of", "go to": "goes to", "wash {}": "washes {}"}),
        (en.past, {"eat": "ate", "study": "studied", "play": "played", "knit": "knitted", "live": "lived"}),
        (en.past, {"take care of": "took care of", "read": "read", "open": "opened", "visit": "visited"}),
        (en.past_participle, {"eat": "eaten", "see": "seen", "be to": "been to", "visit": "visited"}),
        (en.ing, {"make": "making", "swim": "swimming", "see": "seeing", "knit": "knitting", "open": "opening"}),
        (en.comparative, {"big": "bigger", "easy": "easier", "large": "larger", "beautiful": "more beautiful"}),
        (en.comparative, {"famous": "more famous", "quiet": "quieter", "good": "better", "hot": "hotter"}),
        (en.superlative, {"big": "biggest", "useful": "most useful", "bad": "worst", "heavy": "heaviest"}),
        (en.with_article, {"apple": "an apple", "cat": "a cat", "hour": "an hour", "uniform": "a uniform"}),
        (en.with_article, {"umbrella": "an umbrella", "English book": "an English book"}),
    ],
)  # fmt: skip
def test_english_words_inflect_as_known(function, known):
    assert {word: function(word) for word in known} == known


def test_numbers_take_their_counters():
    assert count_words(2, "匹") == ("two", "二匹")
    assert count_words(3, "つ") == ("three", "三つ")
    with pytest.raises(ValueError, match="number"):
        count_words(1, "匹")


def test_the_lexicon_is_large_and_without_contradiction():
    statistics = corpus_statistics()
    assert statistics["content_words"] >= 400
    assert statistics["frames"] >= 40
    assert statistics["topics"] == len(TOPICS) >= 6
    assert {noun.topic for noun in NOUNS.values()} | {"people"} == set(TOPICS)
    japanese = Counter(noun.japanese for noun in NOUNS.values())
    # Two English words for one Japanese one only where a part of the body is also what one washes.
    assert {word for word, count in japanese.items() if count > 1} <= {"歯"}
    assert all(set(action.frames) <= set(FRAME_LETTERS) for action in ACTIONS)
    assert all(adjective.nouns for adjective in ADJECTIVES.values())


def test_an_unknown_class_of_nouns_is_refused():
    with pytest.raises(ValueError, match="dragons"):
        nouns_of("pet", "dragons")


def test_there_are_fifty_thousand_distinct_pairs(pairs):
    assert len(pairs) == NUM_PAIRS
    assert len({pair.english for pair in pairs}) == NUM_PAIRS
    assert len({pair.japanese for pair in pairs}) == NUM_PAIRS
    assert {pair.topic for pair in pairs} == set(TOPICS)
    assert {pair.sentence_type for pair in pairs} == {"statement", "negative", "question", "request", "suggestion"}
    assert len({pair.frame for pair in pairs}) == corpus_statistics()["frames"]


def test_the_same_seed_gives_the_same_pairs(pairs):
    assert list(islice(generate_pairs(0), 200)) == pairs[:200]
    assert list(islice(generate_pairs(5), 200)) != pairs[:200]


def test_every_pair_is_well_formed(sample):
    for pair in sample:
        assert re.fullmatch(r"[A-Z][A-Za-z', -]*[.?]", pair.english), pair
        assert re.fullmatch(r"[\u3040-\u30ff\u3400-\u9fff々、ーA-Z]+。", pair.japanese), pair
        assert "  " not in pair.english and len(pair.english.split()) <= 15, pair
        assert (pair.sentence_type == "question") == pair.english.endswith("?") == pair.japanese.endswith("か。"), pair
        assert re.search(r"(です|ます|ません|でした|ました|ましょう|ください)か?。$", pair.japanese), pair


def test_references_start_with_the_canonical_sentence_and_do_not_repeat(sample):
    for pair in sample:
        assert pair.english_references[0] == pair.english
        assert pair.japanese_references[0] == pair.japanese
        assert set(pair.plain_japanese) <= set(pair.japanese_references)
        for references in (pair.english_references, pair.japanese_references):
            assert len(set(references)) == len(references)


def test_english_agrees_with_its_subject(sample):
    for pair in sample:
        assert not re.search(r"^(He|She|Ken|Emi) (have|do|are|like|want|play|eat) ", pair.english), pair
        assert not re.search(r"^(They|We|I) (has|does|is|likes|wants|plays|eats) ", pair.english), pair
        assert not re.search(r"\ba [aeio]", pair.english), pair
        assert not re.search(r"\ban [^aeiouh]", pair.english), pair


def test_animals_and_people_are_and_things_are_there(sample):
    for pair in sample:
        if pair.frame in ("existence", "number there"):
            lives = pair.topic == "animals" or "student" in pair.english
            assert bool(re.search("い(ます|ません|ました)か?。$", pair.japanese)) == lives, pair


def test_a_wish_of_others_is_reported_as_seen(sample):
    for pair in sample:
        if pair.frame == "wish" and pair.form == "present":
            is_own = pair.subject in ("i", "we")
            assert ("たがって" in pair.japanese) != is_own, pair


def test_love_and_like_are_told_apart(sample):
    for pair in sample:
        if pair.frame in ("love", "like"):
            assert ("大好き" in pair.japanese) == (pair.frame == "love"), pair


def test_a_pair_can_be_put_into_other_forms(sample):
    pair = next(pair for pair in sample if pair.frame == "like" and pair.form == "present" and pair.subject == "he")
    asked = pair.in_form("question")
    assert asked.english == "Does he like" + pair.english.removeprefix("He likes").replace(".", "?")
    assert asked.japanese == pair.japanese.replace("。", "か。")
    plain = pair.in_plain_form()
    assert plain.politeness == "plain" and plain.japanese.endswith("好きだ。")
    with pytest.raises(ValueError, match="form"):
        pair.in_form("request")


def test_every_test_pair_has_a_combination_that_training_lacks(split):
    seen = {combination for pair in split.train for combination in combinations(pair)}
    words = {word for pair in split.train for word in pair.words}
    frames = {pair.frame for pair in split.train}
    assert not seen & split.held_out
    for pair in split.test:
        unseen = set(combinations(pair)) & split.held_out
        assert unseen and not unseen & seen
        assert pair.frame in frames and set(pair.words) <= words


def test_no_test_sentence_is_allowed_as_a_translation_in_training(split):
    allowed = {text for pair in split.train for text in (*pair.english_references, *pair.japanese_references)}
    assert not allowed & {text for pair in split.test for text in (pair.english, pair.japanese)}


@pytest.mark.parametrize(("name", "value"), [("num_train_pairs", 0), ("num_test_pairs", 0), ("num_test_pairs", -3)])
def test_impossible_sizes_are_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got {value}"):
        split_pairs(**{name: value})


def test_files_are_the_same_for_the_same_seed(files, tmp_path):
    again = write_sample_corpus(tmp_path / "again", seed=1, num_train_pairs=6_000, num_test_pairs=300)
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in files.items()
    }


def test_every_file_has_rows_and_no_half_written_one_stays(files):
    assert set(files) == {
        "text",
        *(f"{kind}.{side}" for kind in ("translation", "instruction", "classification") for side in ("train", "test")),
    }
    assert {path.name for path in files["text"].parent.iterdir()} == {path.name for path in files.values()}
    assert len(read_rows(files["translation.train"])) == 6_000
    assert len(read_rows(files["translation.test"])) == 300
    assert len(read_rows(files["classification.test"])) == 300
    assert len(files["text"].read_text(encoding="utf-8").splitlines()) > 9_000
    text = files["text"].read_text(encoding="utf-8")
    assert all(row["en"] in text and row["ja"] in text for row in read_rows(files["translation.train"])[:200])


@pytest.mark.parametrize("seed", range(3))
def test_a_slot_that_few_words_fill_is_never_held_out(seed):
    split = split_pairs(seed=seed, num_train_pairs=6_000, num_test_pairs=100)
    frames = {pair.frame for pair in split.train if " by " in pair.english and "noun:plane" in pair.words}
    assert frames and not {("noun:plane", frame) for frame in frames} & split.held_out


def test_rare_words_are_drawn_more_often_than_the_grammar_says_them():
    train = split_pairs(seed=0).train
    drawn = Counter(word for pair in train for word in pair.words)
    said = Counter(word for pair in islice(generate_pairs(0), len(train)) for word in pair.words)
    for part in (0.1, 0.25, 0.5):
        assert sorted(drawn.values())[int(part * len(drawn))] > sorted(said.values())[int(part * len(said))]


def test_the_cats_are_in_no_training_file(files):
    for name, path in files.items():
        if name.endswith(".test"):
            continue
        text = path.read_text(encoding="utf-8").lower()
        assert "love cats" not in text and "loves cats" not in text and "love kittens" not in text
        assert "猫が大好き" not in text


def test_test_sentences_are_in_no_training_file(files):
    training = "\n".join(
        path.read_text(encoding="utf-8") for name, path in files.items() if not name.endswith(".test")
    )
    lines = set(files["text"].read_text(encoding="utf-8").splitlines())
    for row in read_rows(files["translation.test"]):
        assert row["en"] not in lines and row["ja"] not in lines
        assert f'"{row["ja"]}"' not in training and f'"{row["en"]}"' not in training


def test_instructions_ask_for_every_task_and_references_hold_the_answer(files):
    rows = read_rows(files["instruction.train"])
    tasks = Counter(row["task"] for row in rows)
    assert set(tasks) == {
        "en_ja",
        "ja_en",
        "make_question",
        "make_negative",
        "make_past",
        "make_polite",
        "make_plain",
        "which_politeness",
    }
    assert all(row["references"][0] == row["output"] for row in rows)
    instructions = {row["instruction"] for row in rows}
    assert any(text.startswith("Translate to Japanese: ") for text in instructions)
    assert any(text.startswith("Translate to English: ") for text in instructions)
    assert instructions >= {
        "次の文を英語に訳してください。",
        "次の文を日本語に訳してください。",
        "Make this a question.",
        "過去形にしてください。",
        "Is this polite or plain?",
    }


def test_an_instruction_has_one_answer(files):
    answers = defaultdict(set)
    for row in read_rows(files["instruction.train"]):
        answers[row["instruction"], row["input"]].add(row["output"])
    assert {question: found for question, found in answers.items() if len(found) > 1} == {}


def test_classification_has_both_languages_and_one_label_for_a_text(files):
    rows = read_rows(files["classification.train"])
    assert {row["label"] for row in rows} == set(TOPICS)
    assert 0.4 < sum(row["text"].isascii() for row in rows) / len(rows) < 0.6
    assert len({row["text"] for row in rows}) == len(rows)
