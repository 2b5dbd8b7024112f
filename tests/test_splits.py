"""Which rows a run trains and validates on."""

import pytest

from kakehashi.training.arguments import InstructArguments
from kakehashi.training.splits import load_splits


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "rows.tsv"
    file.write_text("en\tja\n" + "".join(f"word {i}\t語{i}\n" for i in range(20)), encoding="utf-8")
    return str(file)


def test_a_fraction_is_held_out_the_same_way_for_the_same_seed(table):
    arguments = InstructArguments(train_files=[table], validation_split=0.1)
    first, second, other = (load_splits(arguments, seed) for seed in (0, 0, 1))
    assert (len(first.train), len(first.validation), first.test) == (18, 2, None)
    assert first.validation["en"][:] == second.validation["en"][:] != other.validation["en"][:]
    assert not set(first.train["en"][:]) & set(first.validation["en"][:])


def test_files_and_limits_decide_the_splits(table):
    arguments = InstructArguments(
        train_files=[table],
        validation_files=[table],
        test_files=[table],
        max_train_examples=5,
        max_validation_examples=3,
    )
    splits = load_splits(arguments, 0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (5, 3, 20)


def test_contradictions_are_refused(table):
    with pytest.raises(ValueError, match="`train_files` must name at least one file"):
        load_splits(InstructArguments(), 0)
    with pytest.raises(ValueError, match="`validation_split` must be 0 where `validation_files` are given"):
        load_splits(InstructArguments(train_files=[table], validation_files=[table], validation_split=0.1), 0)


def test_one_row_cannot_be_divided(tmp_path):
    file = tmp_path / "one.tsv"
    file.write_text("en\tja\na\tb\n", encoding="utf-8")
    with pytest.raises(ValueError, match="`validation_split` needs at least 2 rows to divide, got 1"):
        load_splits(InstructArguments(train_files=[str(file)], validation_split=0.5), 0)


def test_what_was_divided_is_kept_in_the_order_of_the_files(table):
    splits = load_splits(InstructArguments(train_files=[table], validation_split=0.5, max_train_examples=3), 0)
    assert splits.rows_as_read["en"][:] == [f"word {i}" for i in range(20)]
    whole = load_splits(InstructArguments(train_files=[table]), 0)
    assert whole.rows_as_read is whole.train
