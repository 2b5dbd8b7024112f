import json
import random
from collections import Counter
from itertools import pairwise

import pytest
from transformers import AutoTokenizer

from kakehashi.tokenization import for_causal_lm, train_tokenizer
from kakehashi.tokenization.extension import extend_tokenizer
from kakehashi.tokenization.pretokenization import build_pre_tokenizer

CORPUS = [
    "I love cats. She loves dogs, and they don't love 12 cats!",
    "私は猫が大好きです。彼女は犬が好きです。",
    "lower lowest newer newest wider 猫は猫、犬は犬。",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS * 3, vocab_size=420, show_progress=False)


def random_string(rng):
    """Any Unicode scalar values: mostly those that people write, some from anywhere, some special tokens."""
    pools = [(0x20, 0x7F), (0x3040, 0x3100), (0x4E00, 0xA000), (0xFF00, 0xFFF0), (0x1F300, 0x1FAFF)]
    pools += [(0, 0xD800), (0xE000, 0x110000)]
    pieces = [chr(rng.randrange(*rng.choice(pools))) for _ in range(rng.randrange(1, 30))]
    if rng.random() < 0.3:
        typed = ["<s>", "</s>", "<|user|>", "▁", "<extra_id_0>", "か\u3099", "\x00", "\r\n", "  ", "👩‍👩‍👧", "Ａ１"]
        pieces.insert(rng.randrange(len(pieces) + 1), rng.choice(typed))
    return "".join(pieces)


def reference_bpe(texts, num_merges, min_frequency):
    """Byte pair encoding by the book: count pairs again after each merge, the smaller ids win a tie."""
    pre_tokenizer = build_pre_tokenizer()
    words = Counter(piece for text in texts for piece, _ in pre_tokenizer.pre_tokenize_str(text))
    alphabet = sorted(pre_tokenizer[1].alphabet())
    ids = {symbol: index for index, symbol in enumerate(alphabet)}
    parts = {word: list(word) for word in words}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for word, symbols in parts.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        if pairs[best] < min_frequency:
            break
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        parts = {word: merge_pair(symbols, best) for word, symbols in parts.items()}
    return merges, parts


def merge_pair(symbols, pair):
    merged = []
    for symbol in symbols:
        # A symbol made a moment ago is longer than either half, so it cannot be merged again by the same pair.
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def test_merges_and_tokens_equal_an_independent_reference(tokenizer):
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges, parts = reference_bpe(CORPUS * 3, num_merges=420 - 107 - 256, min_frequency=2)
    assert [tuple(merge) for merge in model["merges"]] == merges
    for text in CORPUS:
        pieces = build_pre_tokenizer().pre_tokenize_str(text)
        expected = [symbol for piece, _ in pieces for symbol in parts[piece]]
        assert tokenizer.tokenize(text) == expected


def test_any_string_comes_back_exactly(tokenizer):
    rng = random.Random(0)
    texts = [random_string(rng) for _ in range(10_000)]
    encoded = tokenizer(texts, split_special_tokens=True, add_special_tokens=False)["input_ids"]
    assert tokenizer.batch_decode(encoded) == texts
    assert all(index >= 107 for ids in encoded for index in ids)


@pytest.mark.parametrize("config", [None, {"model_type": "kakehashi"}, {"model_type": "bart"}])
def test_auto_tokenizer_gives_identical_ids(tokenizer, tmp_path, config):
    tokenizer.save_pretrained(tmp_path)
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    rng = random.Random(2)
    texts = [*CORPUS, *(random_string(rng) for _ in range(500))]
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert loaded(CORPUS[0], CORPUS[1])["input_ids"] == tokenizer(CORPUS[0], CORPUS[1])["input_ids"]
    assert loaded.chat_template == tokenizer.chat_template
    assert loaded.all_special_tokens == tokenizer.all_special_tokens
    assert loaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_a_text_ends_with_eos_and_a_pair_has_two(tokenizer):
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("cats", "dogs"))
    assert tokenizer("cats")["input_ids"] == [*first, 2]
    assert tokenizer("cats", "dogs")["input_ids"] == [*first, 2, *second, 2]
    assert tokenizer(text_target="cats")["input_ids"] == [*first, 2]


def test_the_saved_settings_are_those_a_model_needs(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    batch = loaded(["cats", "I love cats."], padding=True)
    assert list(batch) == ["input_ids", "attention_mask"]
    assert batch["attention_mask"][0][0] == 1
    assert batch["attention_mask"][0][-1] == 0
    assert (loaded.pad_token, loaded.bos_token, loaded.eos_token, loaded.mask_token) == (
        "<pad>",
        "<s>",
        "</s>",
        "<mask>",
    )
    assert loaded.clean_up_tokenization_spaces is False
    assert loaded.model_max_length > 10**9
    assert len(loaded) == 420


def test_a_mask_takes_the_space_before_it_with_it(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    copies = [tokenizer, AutoTokenizer.from_pretrained(tmp_path), for_causal_lm(tokenizer)]
    copies += [extend_tokenizer(tokenizer, ["<|tool|>"], special=True).tokenizer]
    for each in copies:
        plain = {"add_special_tokens": False}
        expected = [index for text in ("I love", "<mask>", " cats") for index in each(text, **plain)["input_ids"]]
        for text in ("I love <mask> cats", "I love<mask> cats"):
            assert each(text, **plain)["input_ids"] == expected
        assert each.decode(expected) == "I love<mask> cats"
        # Text that only spells a mask keeps its space.
        spelt = each("I love <mask> cats", **plain, split_special_tokens=True)["input_ids"]
        assert each.mask_token_id not in spelt and each.decode(spelt) == "I love <mask> cats"


def test_special_tokens_in_the_corpus_are_learned_as_text():
    tokenizer = train_tokenizer(
        ["<s> </s> <mask> <|user|>"] * 9, vocab_size=380, allow_smaller=True, show_progress=False
    )
    ids = tokenizer("<s></s>", split_special_tokens=True, add_special_tokens=False)["input_ids"]
    assert min(ids) >= 107
    assert tokenizer("<s></s>", add_special_tokens=False)["input_ids"] == [1, 2]


def test_tokens_keep_to_the_longest_length():
    tokenizer = train_tokenizer(["猫猫猫猫 aaaaaaaa"] * 5, vocab_size=368, max_token_length=6, show_progress=False)
    assert max(len(token) for token, index in tokenizer.get_vocab().items() if index >= 107) <= 6


def test_texts_are_read_as_a_stream_and_only_once():
    read = 0

    def stream():
        nonlocal read
        for read in range(1, 5001):
            yield CORPUS[read % 3]

    train_tokenizer(stream(), vocab_size=400, show_progress=False)
    assert read == 5000


def test_progress_goes_to_stderr(capfd):
    train_tokenizer(CORPUS * 3, vocab_size=400)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "9 texts" in captured.err


def test_the_size_is_rounded_up_to_a_multiple():
    tokenizer = train_tokenizer(CORPUS * 3, vocab_size=380, pad_to_multiple_of=64, show_progress=False)
    assert len(tokenizer) == 384


def test_a_size_out_of_reach_says_how_far_it_got():
    with pytest.raises(ValueError, match=r"`vocab_size` of 9,000 cannot be reached: 1 texts of .* give \d+ entries"):
        train_tokenizer(["cats cats"], vocab_size=9000, show_progress=False)
    smaller = train_tokenizer(["cats cats"], vocab_size=9000, allow_smaller=True, show_progress=False)
    assert 363 < len(smaller) < 400


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 362}, r"`vocab_size` must be at least 363 \(107 special tokens and 256 bytes\), got 362"),
        ({"min_frequency": 0}, "`min_frequency` must be 1 or more, got 0"),
        ({"max_token_length": 1}, "`max_token_length` must be 2 bytes or more, got 1"),
        ({"pad_to_multiple_of": 0}, "`pad_to_multiple_of` must be 1 or more, got 0"),
        ({"num_sentinels": -1}, "`num_sentinels` must be 0 or more, got -1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(CORPUS, show_progress=False, **{"vocab_size": 400, **options})


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_refused(texts):
    with pytest.raises(ValueError, match="`texts` must hold at least one text that is not empty, got none"):
        train_tokenizer(texts, vocab_size=400, show_progress=False)


def test_a_lone_surrogate_is_refused_with_its_place():
    message = r"text number 1 of `texts` must hold Unicode scalar values .* character 2 is the lone surrogate U\+D800"
    with pytest.raises(ValueError, match=message):
        train_tokenizer(["fine", "ab\ud800c"], vocab_size=400, show_progress=False)


def test_something_else_than_texts_is_refused():
    with pytest.raises(TypeError, match="got one string: put it into a list"):
        train_tokenizer("one string", vocab_size=400, show_progress=False)
    with pytest.raises(TypeError, match="`texts` must hold strings, got int as text number 1"):
        train_tokenizer(["a", 2], vocab_size=400, show_progress=False)
