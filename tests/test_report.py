from html.parser import HTMLParser

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from kakehashi.tokenization.report import build_report, character_sets, show_piece


class Checker(HTMLParser):
    """Reads a page, keeps its text and the tags still open."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def check(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def page(tiny_tokenizer, tiny_sentences):
    return build_report(
        tiny_tokenizer, "tiny <1>", examples=["I love <b>cats</b>."], open_texts=lambda: iter(tiny_sentences)
    )


def test_the_page_is_whole_and_needs_no_network(page):
    checker = check(page)
    assert not any("src" in attrs or "href" in attrs or tag in {"script", "link"} for tag, attrs in checker.tags)
    assert "http" not in page and "url(" not in page
    assert sum(tag == "svg" for tag, _ in checker.tags) == 3


def test_the_page_shows_lengths_scripts_coverage_texts_and_merges(page):
    text = "".join(check(page).texts)
    for heading in ("How long", "learned when", "longest entries", "Coverage", "texts it was given", "merges build"):
        assert heading in text
    for name in ("Hiragana", "Latin", "Kanji of JIS level 1", "Japanese", "384 entries", "111 merge"):
        assert name in text
    assert "of 111 merges" in text


def test_texts_are_escaped_on_the_page(page):
    assert "tiny &lt;1&gt;" in page and "&lt;b&gt;" in page and "<b>" not in page


def test_without_texts_that_section_is_left_out(tiny_tokenizer):
    assert "texts it was given" not in build_report(tiny_tokenizer, "tiny")


def test_a_vocabulary_without_merges_has_a_page_too():
    from kakehashi.tokenization import train_tokenizer

    bare = train_tokenizer(["cat"], vocab_size=363, show_progress=False)
    check(build_report(bare, "bare", open_texts=lambda: ["cat"]))


def test_the_sets_of_characters_have_their_known_sizes():
    sizes = {name: len(characters) for name, characters in character_sets().items()}
    assert sizes["ASCII"] == 95
    assert sizes["Kanji of JIS level 1"] == 2965
    assert sizes["Kanji of JIS level 2"] == 3390
    assert all(len(set(characters)) == len(characters) for characters in character_sets().values())


@pytest.mark.parametrize(
    ("piece", "shown"), [(b" cat", "␣cat"), (b"\xe7\x8c", "⟨e7 8c⟩"), (b"\n", "⟨U+000A⟩"), ("猫".encode(), "猫")]
)
def test_a_piece_is_shown_so_that_it_can_be_seen(piece, shown):
    assert show_piece(piece) == shown


def test_another_kind_of_tokenizer_is_refused():
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"cat": 0}, unk_token="cat")))
    with pytest.raises(ValueError, match="must be a byte-level BPE"):
        build_report(words, "words")
