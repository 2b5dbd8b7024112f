"""A few rows out of many, and nothing on the disk."""

import json
from pathlib import Path

import pytest
from datasets import config

from kakehashi.training.row_sample import sample_rows


@pytest.fixture
def numbers(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": str(number), "n": number}) + "\n" for number in range(3000)))
    return str(file)


def test_rows_are_counted_and_a_random_choice_keeps_their_order(numbers):
    sample = sample_rows(numbers, limit=200)
    assert (sample.total, sample.is_complete, len(sample.rows)) == (3000, True, 200)
    chosen = sample.rows["n"][:]
    assert chosen == sorted(chosen)
    # From everywhere, not from the beginning.
    assert 1200 < sum(chosen) / 200 < 1800
    assert chosen == sample_rows(numbers, limit=200).rows["n"][:]
    assert chosen != sample_rows(numbers, limit=200, seed=1).rows["n"][:]


def test_few_rows_are_all_taken_and_blank_lines_are_none(tmp_path):
    (tmp_path / "text.txt").write_text("one\n\n  \ntwo\n")
    sample = sample_rows(str(tmp_path / "text.txt"))
    assert (sample.rows["text"][:], sample.total) == (["one", "two"], 2)


def test_reading_stops_when_the_time_is_up(numbers):
    sample = sample_rows(numbers, limit=10, max_seconds=0.0)
    assert (sample.total, sample.is_complete) == (1000, False)


def test_no_rows_are_written(numbers):
    def written():
        return {path for path in Path(config.HF_DATASETS_CACHE).rglob("*.arrow")}

    before = written()
    sample_rows(numbers)
    assert written() == before


def test_damaged_and_absent_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jsonl"):
        sample_rows(str(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(ValueError, match=r"bad\.jsonl.* is not valid JSON"):
        sample_rows(str(tmp_path / "bad.jsonl"))
