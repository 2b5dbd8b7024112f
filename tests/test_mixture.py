import numpy as np
import pytest

from kakehashi.tokenization.special_tokens import sentinel_ids
from kakehashi.training.mixture import (
    Task,
    denoising_tasks,
    draw_tasks,
    exchange_splits,
    pair_lengths,
    ul2_tasks,
)

EOS = 2
UL2_IDS = (7, 8, 9)


def make_pairs(tasks, pieces, chosen, splits, sentinels):
    draws = np.random.default_rng(1)
    return [
        tasks[number].make_pair(piece, draws, split=int(split), sentinel_token_ids=sentinels, eos_token_id=EOS)
        for piece, number, split in zip(pieces, chosen, splits, strict=True)
    ]


def test_a_ratio_of_zero_or_one_leaves_one_task():
    assert [task.is_next_word for task in denoising_tasks(1.0)] == [True]
    assert [task.is_next_word for task in denoising_tasks(0.0)] == [False]
    assert [task.is_next_word for task in denoising_tasks(0.5)] == [True, False]


def test_a_ratio_above_one_is_refused():
    with pytest.raises(ValueError, match=r"`next_word_ratio` must be between 0 and 1, but it is 1\.5"):
        denoising_tasks(1.5)


def test_tasks_are_drawn_by_their_shares_and_splits_lie_inside():
    lengths = np.random.default_rng(0).integers(1, 40, size=6000)
    tasks = ul2_tasks(UL2_IDS)
    chosen, splits = draw_tasks(lengths, tasks, np.random.default_rng(0))
    drawn = np.bincount(chosen, minlength=len(tasks)) / len(lengths)
    assert np.abs(drawn - [task.share for task in tasks]).max() < 0.02
    assert (splits[lengths > 1] >= 1).all() and (splits < lengths).all() and (splits[lengths == 1] == 0).all()


@pytest.mark.parametrize("tasks", [denoising_tasks(), ul2_tasks(UL2_IDS)])
def test_pairs_are_exactly_as_long_as_foretold(tasks):
    draws = np.random.default_rng(0)
    lengths = draws.integers(1, 60, size=300)
    pieces = [draws.integers(200, 300, size=length) for length in lengths]
    chosen, splits = draw_tasks(lengths, tasks, draws)
    pairs = make_pairs(tasks, pieces, chosen, splits, sentinels=list(range(10, 60)))
    foretold = pair_lengths(lengths, chosen, splits, tasks)
    assert [[len(source), len(target)] for source, target in pairs] == foretold.tolist()


def test_each_task_of_ul2_is_announced_by_its_token(tiny_tokenizer):
    sentinels = sentinel_ids(tiny_tokenizer)
    for task in ul2_tasks(UL2_IDS):
        source, target = task.make_pair(
            range(200, 210), np.random.default_rng(0), split=None, sentinel_token_ids=sentinels, eos_token_id=EOS
        )
        assert source[0] == task.token_id and source[-1] == target[-1] == EOS
        assert (target[0] == sentinels[0]) != task.is_next_word or not np.isin(sentinels, source).any()


def test_the_longest_piece_fits_whatever_is_drawn():
    for task in (*ul2_tasks(UL2_IDS), *denoising_tasks()):
        length = np.array([task.longest_piece(40, 30)])
        for split in range(1, int(length[0])):
            source, target = pair_lengths(length, np.array([0]), np.array([split]), [task])[0]
            assert source <= 40 and target <= 30


def test_exchanged_splits_keep_the_row_as_long_as_it_is():
    draws = np.random.default_rng(0)
    lengths = draws.integers(1, 30, size=12)
    splits = np.where(lengths > 1, draws.integers(1, np.maximum(lengths, 2)), 0)
    seen = set()
    for _ in range(20):
        exchanged = exchange_splits(splits, lengths, draws)
        assert exchanged.sum() == splits.sum()
        inside = lengths > 1
        assert (exchanged[inside] >= 1).all() and (exchanged[inside] < lengths[inside]).all()
        assert (exchanged[~inside] == 0).all()
        seen.add(tuple(exchanged))
    assert len(seen) > 15


@pytest.mark.parametrize("lengths", [[], [1], [9]])
def test_a_lone_piece_keeps_its_split(lengths):
    lengths = np.array(lengths, dtype=np.int64)
    splits = np.minimum(lengths - 1, 4)
    assert exchange_splits(splits, lengths, np.random.default_rng(0)).tolist() == splits.tolist()


def test_the_split_that_was_drawn_before_is_kept():
    source, target = Task(1.0).make_pair(
        [5, 6, 7], np.random.default_rng(0), split=2, sentinel_token_ids=[], eos_token_id=EOS
    )
    assert source.tolist() == [5, 6, EOS] and target.tolist() == [7, EOS]
