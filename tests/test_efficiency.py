import pytest

from kakehashi.tokenization.compression import Compression
from kakehashi.tokenization.efficiency import Efficiency

TEXTS = ["I love cats and dogs.", "aaaaaaaaaaaaaaaaaaaa", "私は猫が大好きなのでした。", "OK", "Good morning everybody"]


def by_words(texts):
    return [len(text.split()) for text in texts]


def by_characters(texts):
    return [len(text) for text in texts]


def test_each_language_is_counted_with_each_tokenizer_in_one_reading():
    measured = Efficiency({"words": by_words, "characters": by_characters}).read(iter(TEXTS))
    assert list(measured.by_language) == ["Latin", "Japanese"]
    assert measured.by_language["Latin"]["words"] == Compression(4, 65, 65, 10)
    assert measured.by_language["Japanese"]["characters"] == Compression(1, 13, 39, 13)
    assert measured.total["words"] == Compression(5, 78, 104, 11)


def test_the_first_tokenizer_chooses_the_examples_and_short_texts_are_none():
    measured = Efficiency({"words": by_words, "characters": by_characters}, num_examples=1).read(TEXTS * 2)
    assert measured.most_efficient("Latin") == [(20.0, "a" * 20)]
    assert measured.least_efficient("Latin") == [(21 / 5, "I love cats and dogs.")]
    assert Efficiency({"words": by_words}, num_examples=0).read(TEXTS).most_efficient("Latin") == []


def test_a_lone_surrogate_is_refused_with_the_number_of_its_text():
    with pytest.raises(ValueError, match=r"text number 2 must hold Unicode scalar values .* U\+D800"):
        Efficiency({"words": by_words}).read(["a", "\ud800"])


def test_no_tokenizer_is_refused():
    with pytest.raises(ValueError, match="must hold at least one tokenizer, got none"):
        Efficiency({})
