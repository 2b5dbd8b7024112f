import sys
from types import SimpleNamespace

import pytest

from kakehashi.tokenization.peers import count_tokens, load_counter, load_tokenizer
from kakehashi.tokenization.train import save_tokenizer


@pytest.fixture
def fake_tiktoken(monkeypatch):
    """Stands in for tiktoken, whose encodings come over the network."""
    encoding = SimpleNamespace(encode_ordinary_batch=lambda texts: [text.split() for text in texts])
    module = SimpleNamespace(list_encoding_names=lambda: ["o200k_base", "gpt2"], get_encoding=lambda name: encoding)
    monkeypatch.setitem(sys.modules, "tiktoken", module)


def test_a_folder_is_counted_with_and_typed_special_tokens_are_text(tiny_tokenizer, tmp_path):
    save_tokenizer(tiny_tokenizer, tmp_path)
    texts = ["I love cats.", "<s>", ""]
    counts = load_counter(str(tmp_path))(texts)
    assert counts == count_tokens(tiny_tokenizer, texts)
    assert counts[1] > 1 and counts[2] == 0


@pytest.mark.parametrize("name", ["o200k_base", "tiktoken:o200k_base", "tiktoken:gpt2"])
def test_an_encoding_of_tiktoken_is_counted_with(fake_tiktoken, name):
    assert load_counter(name)(["a b", "c"]) == [2, 1]


def test_an_encoding_that_tiktoken_does_not_know_is_refused(fake_tiktoken):
    with pytest.raises(ValueError, match="must know the encoding `x9k_base`, but it has only o200k_base, gpt2"):
        load_counter("x9k_base")


def test_without_tiktoken_its_encodings_are_refused_readably(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(ValueError, match="`o200k_base` is an encoding of tiktoken, which is not installed"):
        load_counter("o200k_base")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a folder with a tokenizer\.json, but it has none"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(ValueError, match=r"`runs/none` must be a folder with a tokenizer\.json"):
        load_tokenizer("runs/none")


def test_a_name_that_leads_nowhere_is_refused():
    with pytest.raises(OSError, match="there is no folder nobody/no-such-tokenizer, and the Hub gave nothing"):
        load_counter("nobody/no-such-tokenizer")
