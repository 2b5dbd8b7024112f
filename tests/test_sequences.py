import numpy as np
import pytest

from kakehashi.training.sequences import Sequences, choose, concatenate, find_owners, find_positions

WORDS = Sequences.of([[10, 11, 12], [20], [], [30, 31]])


def listed(sequences):
    return [sequence.tolist() for sequence in sequences.split()]


def test_sequences_stand_end_to_end_and_come_apart_again():
    assert WORDS.ids.tolist() == [10, 11, 12, 20, 30, 31] and WORDS.lengths.tolist() == [3, 1, 0, 2]
    assert WORDS.starts.tolist() == [0, 3, 4, 4] and WORDS.ends.tolist() == [3, 4, 4, 6]
    assert WORDS.owners.tolist() == find_owners(WORDS.lengths).tolist() == [0, 0, 0, 1, 3, 3]
    assert WORDS.positions.tolist() == find_positions(WORDS.lengths).tolist() == [0, 1, 2, 0, 0, 1]
    assert len(WORDS) == 4 and listed(WORDS) == [[10, 11, 12], [20], [], [30, 31]]


def test_of_nothing_there_is_nothing():
    nothing = Sequences.of([])
    assert len(nothing) == 0 and nothing.split() == [] and len(nothing.append(1).ids) == 0
    assert len(nothing.positions) == len(nothing.owners) == 0


def test_some_sequences_are_taken_in_any_order():
    assert listed(WORDS.take(np.array([3, 0, 2, 3]))) == [[30, 31], [10, 11, 12], [], [30, 31]]
    assert len(WORDS.take(np.array([], np.int64))) == 0


def test_ids_leave_and_enter_their_own_sequence():
    assert listed(WORDS.keep(WORDS.ids % 10 < 1)) == [[10], [20], [], [30]]
    assert listed(WORDS.prepend(1).append(2)) == [[1, 10, 11, 12, 2], [1, 20, 2], [1, 2], [1, 30, 31, 2]]
    inserted = WORDS.insert(np.array([1, 2, 5]), [7, 8, 9], [2, 0, 0, 1])
    assert listed(inserted) == [[10, 7, 11, 8, 12], [20], [], [30, 9, 31]]


def test_parts_are_joined():
    assert listed(concatenate([WORDS, WORDS.take(np.array([1]))])) == [*listed(WORDS), [20]]


def test_so_many_ids_of_each_sequence_are_chosen_each_as_often():
    lengths, counts = np.array([4, 1, 0, 6]), np.array([1, 1, 0, 4])
    draws, seen = np.random.default_rng(0), np.zeros(11)
    for _ in range(3000):
        chosen = choose(lengths, counts, draws)
        assert np.bincount(find_owners(lengths)[chosen], minlength=4).tolist() == counts.tolist()
        seen += chosen
    assert seen / 3000 == pytest.approx([1 / 4] * 4 + [1] + [4 / 6] * 6, abs=0.03)
