"""Which writing a character and a text are in, by the names Unicode gives its characters.

```
"I love 猫。"    Latin 5, Chinese characters 1            a text in Latin script
"私は猫が好き"    Chinese characters 3, Hiragana 3          a text in Japanese
"北京大学"        Chinese characters 4                      a text in Chinese characters
"1 + 1 = 2"      no letter                                 a text without letters
```
"""

import functools
import unicodedata
from collections import Counter

HAN = "Chinese characters"
HIRAGANA = "Hiragana"
KATAKANA = "Katakana"
JAPANESE = "Japanese"
NO_LETTERS = "no letters"

_JAPANESE_SCRIPTS = (HAN, HIRAGANA, KATAKANA)
_WIDTHS = ("FULLWIDTH", "HALFWIDTH")
# The first word of a name is the script, but for these.
_SCRIPT_OF_FIRST_WORD = {
    "CJK": HAN,
    "IDEOGRAPHIC": HAN,
    "KATAKANA-HIRAGANA": KATAKANA,
    "MODIFIER": NO_LETTERS,
}


@functools.lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """Returns the script of a character, such as `Latin` or `Hiragana`; `no letters` for all that is not a letter."""
    if not unicodedata.category(character).startswith("L"):
        return NO_LETTERS
    words = [word for word in unicodedata.name(character, "OTHER").split() if word not in _WIDTHS]
    return _SCRIPT_OF_FIRST_WORD.get(words[0], words[0].capitalize())


def count_scripts(text: str) -> Counter[str]:
    """Returns how many letters of each script `text` holds."""
    scripts = Counter(map(script_of, text))
    del scripts[NO_LETTERS]
    return scripts


def language_of(text: str) -> str:
    """Returns the language group of a text: the script most of its letters are in.

    Kana and Chinese characters count together, and make the text `Japanese` as soon as there is one kana. English is
    not told from French, nor Russian from Bulgarian: the answer is `Latin` or `Cyrillic`.
    """
    scripts = count_scripts(text)
    if not scripts:
        return NO_LETTERS
    has_kana = bool(scripts[HIRAGANA] or scripts[KATAKANA])
    groups: Counter[str] = Counter()
    for script, number in scripts.items():
        groups[JAPANESE if has_kana and script in _JAPANESE_SCRIPTS else script] += number
    return groups.most_common(1)[0][0]
