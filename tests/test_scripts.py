import pytest

from kakehashi.tokenization.scripts import count_scripts, language_of, script_of


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("a", "Latin"),
        ("Ａ", "Latin"),
        ("é", "Latin"),
        ("猫", "Chinese characters"),
        ("々", "Chinese characters"),
        ("ひ", "Hiragana"),
        ("ア", "Katakana"),
        ("ｱ", "Katakana"),
        ("ー", "Katakana"),
        ("Ж", "Cyrillic"),
        ("한", "Hangul"),
        ("ก", "Thai"),
        ("1", "no letters"),
        ("。", "no letters"),
        ("🐈", "no letters"),
        ("ʰ", "no letters"),
        ("\u0378", "no letters"),
    ],
)
def test_a_character_is_of_one_script(character, script):
    assert script_of(character) == script


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I love 猫。", "Latin"),
        ("私は猫が好き", "Japanese"),
        ("Linuxのカーネルを更新する", "Japanese"),
        ("北京大学", "Chinese characters"),
        ("Привет, cat!", "Cyrillic"),
        ("1 + 1 = 2", "no letters"),
        ("", "no letters"),
    ],
)
def test_a_text_is_of_the_language_that_most_of_its_letters_are_in(text, language):
    assert language_of(text) == language


def test_letters_are_counted_by_script():
    assert count_scripts("ab 猫 1。") == {"Latin": 2, "Chinese characters": 1}
