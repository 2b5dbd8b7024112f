"""The bunsetsu-aware split: where byte-level BPE may join characters and where it may not.

A Japanese phrase (bunsetsu) is a content word and the particles or endings that follow it, and its script mostly
shows where it starts: a kanji or katakana run opens it, hiragana closes it. Cut there, the pieces repeat as often as
English words do, without a dictionary.

```
"私は猫が大好きです。I don't love 1234 cats."
 私は|猫が|大好きです|。|I| don't| love| |12|34| cats|.
```

The pattern uses explicit character ranges instead of script names, and nothing that only one regular-expression
engine knows, so that Oniguruma (`tokenizers`), Rust (`tiktoken`) and JavaScript (`transformers.js`) agree on it.
"""

import functools

from tokenizers import Regex, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

# Voiced sound marks, combining and spacing: they follow kana of either kind.
_VOICED_MARKS = "\u3099-\u309c"
# Ideographs of all planes with the marks that stand among them (々 〆 〇) and the small kana of 一ヶ月.
_KANJI = "\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003347fヵヶ"
# ー is shared: it lengthens hiragana (らーめん) as well as katakana.
_HIRAGANA = f"\u3041-\u3096\u309d-\u309fー{_VOICED_MARKS}"
_KATAKANA = f"\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f{_VOICED_MARKS}"
_JAPANESE = f"{_KANJI}{_HIRAGANA}{_KATAKANA}"

_SPACE = r"\t-\r\x{0085}\p{Z}".replace(r"\x{0085}", "\u0085")
# What ends a sentence, and what may still follow inside it.
SENTENCE_TERMINATORS = ".!?。！？．｡…‥"
_CLOSERS = r"\"')\]}”’」』）】］｝〕》〉｣»"

DIGIT_GROUPS = (1, 2, 3)


def split_pattern(
    *,
    digits: int = 2,
    contractions: bool = True,
    join_katakana: bool = False,
    space_before_digits: bool = False,
    attach_punctuation: bool = False,
) -> str:
    """Returns the regular expression whose matches are the pre-tokens.

    The defaults are the choice of the table in `docs/tokenizer.md`; the keywords keep the rejected ones measurable.

    Args:
        digits: longest run of digits in one pre-token, 1 to 3.
        contractions: keep `don't` and `l'eau` in one pre-token.
        join_katakana: let kanji and katakana open a phrase together (アメリカ人 in one piece).
        space_before_digits: let a number carry the space before it, as a word does.
        attach_punctuation: let 、 and 。 close the phrase they follow.

    Returns:
        The pattern. It consumes every character, so splitting by it loses nothing.

    Raises:
        ValueError: if `digits` is not 1, 2 or 3.
    """
    if digits not in DIGIT_GROUPS:
        raise ValueError(f"`digits` must be 1, 2 or 3 (the longest run of digits in one token), got {digits!r}.")
    letter = rf"[^\P{{L}}{_JAPANESE}]\p{{M}}*"
    word = rf" ?(?:{letter})+"
    if contractions:
        word += rf"(?:['’](?:{letter})+)*"
    ending = f"[{_HIRAGANA}]*" + ("[、。]?" if attach_punctuation else "")
    if join_katakana:
        phrase = f"[{_KANJI}{_KATAKANA}]+{ending}"
    else:
        phrase = f"[{_KANJI}]+{ending}|[{_KATAKANA}]+{ending}"
    hiragana = f"[{_HIRAGANA}]+" + ("[、。]?" if attach_punctuation else "")
    number = (" ?" if space_before_digits else "") + rf"\p{{N}}{{1,{digits}}}"
    # A run of terminators is closed by quotes and brackets alone: nothing of the next sentence joins it.
    sentence_end = f" ?[{SENTENCE_TERMINATORS}]+[{_CLOSERS}]*"
    punctuation = rf" ?[^{_SPACE}\p{{L}}\p{{N}}{SENTENCE_TERMINATORS}]+"
    line_break = rf"[{_SPACE}]*[\r\n]+"
    # All but the last space of a run stand alone; the last belongs to the word that follows.
    spaces = rf"[{_SPACE}]+(?![^{_SPACE}])|[{_SPACE}]+"
    return "|".join([word, phrase, hiragana, number, sentence_end, punctuation, line_break, spaces])


def build_pre_tokenizer(pattern: str | None = None) -> pre_tokenizers.PreTokenizer:
    """Returns the pre-tokenizer that splits by `pattern` and maps each byte to one printable character.

    Args:
        pattern: regular expression of the pre-tokens; None means `split_pattern()`.
    """
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern or split_pattern()), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def token_bytes(token: str) -> bytes:
    """Returns the bytes that an entry of a byte-level vocabulary stands for.

    Args:
        token: as in the vocabulary, one printable character for each byte (`Ġ` is the space).

    Raises:
        ValueError: if the token holds another character, as entries of other vocabularies do.
    """
    try:
        return bytes(_byte_of_character()[character] for character in token)
    except KeyError as error:
        raise ValueError(f"`token` must be of a byte-level vocabulary, got {token!r} with {error}.") from None


@functools.cache
def _byte_of_character() -> dict[str, int]:
    return {character: byte for byte, character in bytes_to_unicode().items()}
