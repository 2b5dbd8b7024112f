import numpy as np
import pytest

from kakehashi.tokenization.special_tokens import sentinel_ids
from kakehashi.training.mixture import (
    Task,
    denoising_tasks,
    draw_tasks,
    exchange_splits,
    make_pairs,
    pair_lengths,
    ul2_tasks,
)
from kakehashi.training.objectives import draw_splits
from kakehashi.training.sequences import Sequences

EOS = 2
UL2_IDS = (7, 8, 9)


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
    sources, targets = make_pairs(
        Sequences.of(pieces), draws, tasks, chosen, splits, sentinel_token_ids=list(range(10, 60)), eos_token_id=EOS
    )
    foretold = pair_lengths(lengths, chosen, splits, tasks)
    assert np.array_equal(np.stack((sources.lengths, targets.lengths), axis=1), foretold)
    # Each pair is in the place of its piece.
    for piece, source, target in zip(pieces, sources.split(), targets.split(), strict=True):
        regular = np.concatenate((source[source >= 200], target[target >= 200]))
        assert np.array_equal(np.sort(regular), np.sort(piece))


def test_each_span_of_a_piece_is_counted():
    piece = Sequences.of([range(200, 712)])
    for task in ul2_tasks(UL2_IDS):
        source, _ = task.make_pairs(
            piece,
            np.random.default_rng(0),
            splits=np.array([9]),
            sentinel_token_ids=range(10, 110),
            eos_token_id=EOS,
        )
        assert task.count_spans(512) == ((source.ids >= 10) & (source.ids < 110)).sum()
    assert max(task.count_spans(512) for task in ul2_tasks(UL2_IDS)) == 85


def test_each_task_of_ul2_is_announced_by_its_token(tiny_tokenizer):
    sentinels = sentinel_ids(tiny_tokenizer)
    for task in ul2_tasks(UL2_IDS):
        sources, targets = task.make_pairs(
            Sequences.of([range(200, 210)]),
            np.random.default_rng(0),
            splits=np.array([4]),
            sentinel_token_ids=sentinels,
            eos_token_id=EOS,
        )
        source, target = sources.ids, targets.ids
        assert source[0] == task.token_id and source[-1] == target[-1] == EOS
        assert (target[0] == sentinels[0]) != task.is_next_word or not np.isin(sentinels, source).any()


def test_the_longest_piece_fits_whatever_is_drawn():
    for task in (*ul2_tasks(UL2_IDS), *denoising_tasks()):
        length = np.array([task.longest_piece(40, 30)])
        for split in range(1, int(length[0])):
            source, target = pair_lengths(length, np.array([0]), np.array([split]), [task])[0]
            assert source <= 40 and target <= 30


def test_exchanged_splits_keep_each_row_as_long_as_it_is():
    draws = np.random.default_rng(0)
    lengths, rows = draws.integers(1, 30, size=24), np.repeat([0, 1, 2], [12, 9, 3])
    splits = draw_splits(lengths, draws)
    seen = set()
    for _ in range(20):
        exchanged = exchange_splits(splits, lengths, rows, draws)
        assert np.bincount(rows, exchanged).tolist() == np.bincount(rows, splits).tolist()
        inside = lengths > 1
        assert (exchanged[inside] >= 1).all() and (exchanged[inside] < lengths[inside]).all()
        assert (exchanged[~inside] == 0).all()
        seen.add(tuple(exchanged))
    assert len(seen) > 15


@pytest.mark.parametrize("lengths", [[], [1], [9], [9, 1]])
def test_a_lone_piece_keeps_its_split(lengths):
    lengths = np.array(lengths, dtype=np.int64)
    splits, rows = np.minimum(lengths - 1, 4), np.zeros_like(lengths)
    assert exchange_splits(splits, lengths, rows, np.random.default_rng(0)).tolist() == splits.tolist()
    assert (
        exchange_splits(splits, lengths, np.arange(len(lengths)), np.random.default_rng(0)).tolist() == splits.tolist()
    )


def test_the_split_that_was_drawn_before_is_kept():
    sources, targets = Task(1.0).make_pairs(
        Sequences.of([[5, 6, 7]]),
        np.random.default_rng(0),
        splits=np.array([2]),
        sentinel_token_ids=[],
        eos_token_id=EOS,
    )
    assert sources.ids.tolist() == [5, 6, EOS] and targets.ids.tolist() == [7, EOS]
