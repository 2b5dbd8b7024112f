"""The benchmarks of the tokenizer run."""

import pytest
import regex

from kakehashi.tokenization.train import save_tokenizer


@pytest.fixture
def lines(tiny_sentences, tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(tiny_sentences * 3) + "\n", "utf-8")
    return file


def test_the_compression_benchmark_prints_a_row_for_each_split_and_size(load_benchmark, lines, tiny_sentences, capsys):
    compression = load_benchmark("tokenizer_compression")
    names = ["default", "spaces apart"]
    compression.main([str(lines)], str(lines), ["text"], vocab_size=[370, 380], split=names)
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [[f"| {name}", size] for name in names for size in ("370", "380")]


def test_every_split_of_the_table_loses_nothing(load_benchmark):
    compression = load_benchmark("tokenizer_compression")
    text = "I don't love iPhones, NASA's (!?) 12345. お金が大好きなのです。アメリカ人のコーヒーを飲みました。\n🐈"
    for name, pattern in compression.PATTERNS.items():
        assert "".join(regex.findall(pattern, text)) == text, name


def test_the_speed_benchmark_encodes_and_trains_beside_its_peers(
    load_benchmark, lines, tiny_tokenizer, tmp_path, capsys
):
    pytest.importorskip("tiktoken")
    pytest.importorskip("sentencepiece")
    speed = load_benchmark("tokenizer_speed")
    save_tokenizer(tiny_tokenizer, tmp_path / "tokenizer")
    speed.main(str(tmp_path / "tokenizer"), [str(lines)], ["text"], every=1, rounds=1, threads=1, train=True)
    printed = capsys.readouterr().out
    assert "tiktoken gives the same ids for 30 of 30 texts" in printed
    for name in ("kakehashi in tokenizers", "sentencepiece", "kakehashi trains in"):
        assert name in printed
