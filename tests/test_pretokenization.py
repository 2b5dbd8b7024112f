import random
import sys
import unicodedata

import pytest
import regex

from kakehashi.tokenization.pretokenization import build_pre_tokenizer, split_pattern, token_bytes


def split(text, **options):
    pieces = build_pre_tokenizer(split_pattern(**options)).pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in pieces]


def test_a_phrase_is_a_kanji_or_katakana_run_and_the_hiragana_after_it():
    assert split("私は猫が大好きです。") == ["私は", "猫が", "大好きです", "。"]
    assert split("ロンドンでコーヒーを飲みました") == ["ロンドンで", "コーヒーを", "飲みました"]
    assert split("これはアメリカ人の一ヶ月と々") == ["これは", "アメリカ", "人の", "一ヶ月と", "々"]


def test_half_width_kana_and_combining_marks_stay_with_their_kana():
    assert split("ﾊﾝｶｸがか\u3099ある") == ["ﾊﾝｶｸがか\u3099ある"]
    assert split("e\u0301te\u0301 cafe\u0301") == ["e\u0301te\u0301", " cafe\u0301"]


def test_words_carry_the_space_before_them_and_contractions_stay_whole():
    assert split("I don't love l’eau") == ["I", " don't", " love", " l’eau"]
    assert split("don't", contractions=False) == ["don", "'", "t"]
    assert split("a  b") == ["a", " ", " b"]


@pytest.mark.parametrize(("digits", "expected"), [(1, ["1", "2", "3", "4"]), (2, ["12", "34"]), (3, ["123", "4"])])
def test_digits_are_grouped_and_never_with_letters(digits, expected):
    assert split("a1234b", digits=digits) == ["a", *expected, "b"]
    assert split("午前1234時", digits=digits) == ["午前", *expected, "時"]


def test_a_terminator_takes_closing_marks_but_nothing_of_the_next_sentence():
    assert split("「行く。」「待って！」") == ["「", "行く", "。」", "「", "待って", "！」"]
    assert split('He said "Go." (Really?!) Yes...') == [
        "He",
        " said",
        ' "',
        "Go",
        '."',
        " (",
        "Really",
        "?!)",
        " Yes",
        "...",
    ]


def test_the_options_of_the_table_change_the_split():
    assert split("アメリカ人が", join_katakana=True) == ["アメリカ人が"]
    assert split("行く。はい、", attach_punctuation=True) == ["行く。", "はい、"]
    assert split("at 12", space_before_digits=True) == ["at", " 12"]


def test_digits_outside_1_to_3_are_refused():
    with pytest.raises(ValueError, match=r"`digits` must be 1, 2 or 3 .*, got 4"):
        split_pattern(digits=4)


def random_text(rng):
    pools = [(0x20, 0x7F), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xFF00, 0xFFF0), (0, 0xD800), (0xE000, 0x110000)]
    return "".join(chr(rng.randrange(*rng.choice(pools))) for _ in range(rng.randrange(40)))


def test_every_character_is_matched_and_no_piece_mixes_digits_and_letters():
    rng = random.Random(0)
    pattern = regex.compile(f"(?:{split_pattern()})")
    for _ in range(3000):
        text = random_text(rng)
        pieces = split(text)
        assert "".join(pieces) == text
        assert "".join(pattern.findall(text)) == text
        for piece in pieces:
            kinds = {unicodedata.category(character)[0] for character in piece} & {"L", "N"}
            # 〇 and its like are numbers to Unicode and ideographs to a reader.
            assert kinds != {"L", "N"} or any(character in piece for character in "〇〡〢〣〤〥〦〧〨〩〸〹〺")


def test_another_regular_expression_engine_gives_the_same_pieces():
    rng = random.Random(1)
    pattern = regex.compile(split_pattern())
    for _ in range(3000):
        text = "".join(character for character in random_text(rng) if unicodedata.category(character) != "Cn")
        assert pattern.findall(text) == split(text), ascii(text)


def test_every_scalar_value_survives_alone():
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]))
    assert "".join(split(everything)) == everything


def test_entries_of_the_vocabulary_are_turned_back_into_bytes():
    for text in ("猫", " cat", "\x00\n", "🐈"):
        pieces = build_pre_tokenizer().pre_tokenize_str(text)
        assert b"".join(token_bytes(piece) for piece, _ in pieces) == text.encode()
    with pytest.raises(ValueError, match="`token` must be of a byte-level vocabulary, got '▁cat'"):
        token_bytes("▁cat")
