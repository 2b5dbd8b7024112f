"""Exactly one line out for each line in, as soon as it can be."""

import io
import os
import sys
import threading

import pytest

from kakehashi.commands.lines import BATCHES_PER_CHUNK, answer_lines, on_one_line, read_line_chunks


def shout(lines):
    return [line.upper() for line in lines]


def give_stdin(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))


def test_each_text_gives_one_line(capsys):
    answer_lines(["a", "b"], shout, batch_size=1)
    assert capsys.readouterr().out == "A\nB\n"


def test_each_line_of_stdin_gives_one_line_and_an_empty_one_an_empty_one(monkeypatch, capsys):
    asked = []

    def answer(lines):
        asked.extend(lines)
        return shout(lines)

    give_stdin(monkeypatch, "é\n\n  \nb\u2028c\r\nlast".encode())
    answer_lines(None, answer, batch_size=2)
    assert capsys.readouterr().out == "É\n\n\nB C\nLAST\n"
    assert asked == ["é", "b\u2028c", "last"]


def test_an_answer_of_several_lines_is_printed_on_one(capsys):
    answer_lines(["a"], lambda lines: ["one\ntwo\r\nthree\u2029four"], batch_size=1)
    assert capsys.readouterr().out == "one two three four\n"
    assert len(on_one_line("a\x0bb\x0cc\x85d").splitlines()) == 1


def test_no_lines_give_no_lines(monkeypatch, capsys):
    give_stdin(monkeypatch, b"")
    answer_lines([], shout, batch_size=2)
    assert capsys.readouterr().out == ""


def test_the_model_is_asked_for_several_batches_at_once(monkeypatch, capsys):
    sizes = []

    def answer(lines):
        sizes.append(len(lines))
        return shout(lines)

    texts = ["x"] * (2 * BATCHES_PER_CHUNK + 1)
    answer_lines(texts, answer, batch_size=2)
    give_stdin(monkeypatch, b"x\n" * len(texts))
    answer_lines(None, answer, batch_size=2)
    assert sizes == [2 * BATCHES_PER_CHUNK, 1] * 2
    assert capsys.readouterr().out == "X\n" * 2 * len(texts)


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match="`TEXT` must hold at least one character, but text 2 is empty: ' '"):
        answer_lines(["a", " "], shout, batch_size=1)


def test_a_byte_order_mark_is_no_text():
    assert list(read_line_chunks(io.BytesIO("\ufeffa\nb\n".encode()), 8)) == [["a", "b"]]


def test_a_line_that_is_not_utf8_is_named():
    chunks = read_line_chunks(io.BytesIO(b"a\nb\n\xffc\n"), 2)
    assert next(chunks) == ["a", "b"]
    with pytest.raises(ValueError, match="stdin must be UTF-8, but line 3 is not"):
        next(chunks)


def test_a_character_cut_by_the_read_size_is_whole_again():
    data = ("猫" * 40_000 + "\n" + "犬\n" * 3).encode()
    [*chunks] = read_line_chunks(io.BytesIO(data), 10)
    assert [line for chunk in chunks for line in chunk] == ["猫" * 40_000, "犬", "犬", "犬"]


def test_a_line_is_answered_before_the_next_one_is_written():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        chunks, received = read_line_chunks(stream, 100), []
        pipe.write(b"first\n")
        reader = threading.Thread(target=lambda: received.append(next(chunks)), daemon=True)
        reader.start()
        reader.join(10)
        assert received == [["first"]]
        pipe.write(b"second\nthi")
        assert next(chunks) == ["second"]
