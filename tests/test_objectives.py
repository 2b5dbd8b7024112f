import numpy as np
import pytest

from kakehashi.training.objectives import (
    corrupt_spans,
    frame_for_causal_lm,
    longest_corruptible_length,
    mask_tokens,
    span_corruption_lengths,
    split_for_next_word,
)

BOS, EOS, MASK = 1, 2, 3
SENTINELS = list(range(10, 60))
REGULAR = np.arange(100, 1000)


def generator(seed=0):
    return np.random.default_rng(seed)


def restore(source, target):
    """Puts each piece of the target back where its sentinel stands in the source."""
    pieces, sentinel = {}, None
    for token in target[:-1]:
        if token in SENTINELS:
            sentinel = token
            pieces[sentinel] = []
        else:
            pieces[sentinel].append(token)
    restored = [piece for token in source[:-1] for piece in pieces.get(token, [token])]
    return np.array(restored)


@pytest.mark.parametrize("seed", range(5))
def test_context_and_continuation_are_the_document(seed):
    document = generator(seed).integers(100, 1000, size=30)
    source, target = split_for_next_word(document, generator(seed), eos_token_id=EOS)
    assert source[-1] == EOS and target[-1] == EOS and len(source) > 1 and len(target) > 1
    assert np.array_equal(np.concatenate((source[:-1], target[:-1])), document)


def test_every_split_point_is_equally_likely():
    draws = generator()
    lengths = [len(split_for_next_word([101, 102, 103, 104], draws, eos_token_id=EOS)[0]) for _ in range(3000)]
    values, counts = np.unique(lengths, return_counts=True)
    assert values.tolist() == [2, 3, 4]
    assert (abs(counts - 1000) < 120).all()


def test_a_document_of_one_token_follows_from_nothing():
    source, target = split_for_next_word([101], generator(), eos_token_id=EOS)
    assert source.tolist() == [EOS] and target.tolist() == [101, EOS]


@pytest.mark.parametrize("density", [0.05, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("mean_length", [1.0, 3.0, 8.0])
def test_corrupting_and_restoring_gives_back_the_document_and_lengths_are_known(density, mean_length):
    draws = generator()
    for length in [1, 2, 3, 5, 12, 48]:
        document = draws.integers(100, 1000, size=length)
        source, target = corrupt_spans(
            document,
            draws,
            sentinel_token_ids=SENTINELS,
            eos_token_id=EOS,
            noise_density=density,
            mean_noise_span_length=mean_length,
        )
        assert (len(source), len(target)) == span_corruption_lengths(length, density, mean_length)
        assert source[-1] == EOS and target[-1] == EOS
        used = [token for token in source if token in SENTINELS]
        assert used == SENTINELS[: len(used)] == [token for token in target if token in SENTINELS]
        assert np.array_equal(restore(source, target), document)


def test_the_drawn_example_has_the_drawn_lengths():
    assert span_corruption_lengths(12, 0.25, 1.5) == (12, 6)


def test_every_position_is_cut_out_equally_often():
    draws, cut = generator(), np.zeros(12)
    for _ in range(4000):
        _, target = corrupt_spans(
            np.arange(100, 112), draws, sentinel_token_ids=SENTINELS, eos_token_id=EOS, noise_density=0.25
        )
        cut[target[(target >= 100)] - 100] += 1
    # The two ends belong to fewer possible spans than the middle; no position may be left out or always taken.
    assert (cut > 4000 * 0.1).all() and (cut < 4000 * 0.4).all()


def test_too_few_sentinels_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match="needs 5 sentinels, but the tokenizer has 4: cut documents shorter"):
        corrupt_spans(range(100, 200), generator(), sentinel_token_ids=SENTINELS[:4], eos_token_id=EOS)


@pytest.mark.parametrize(("source", "target"), [(128, 128), (512, 114), (20, 200), (2, 3)])
def test_the_longest_document_fits_and_one_more_token_does_not(source, target):
    longest = longest_corruptible_length(source, target)
    assert np.all(np.array(span_corruption_lengths(longest)) <= (source, target))
    assert np.any(np.array(span_corruption_lengths(longest + 1)) > (source, target))


def test_lengths_that_hold_nothing_are_refused():
    with pytest.raises(ValueError, match="needs at least 2 source and 3 target tokens"):
        longest_corruptible_length(1, 1)


def test_causal_labels_stand_where_their_tokens_stand():
    input_ids, labels = frame_for_causal_lm([101, 102], bos_token_id=BOS, eos_token_id=EOS)
    assert input_ids.tolist() == labels.tolist() == [BOS, 101, 102, EOS]
    assert input_ids is not labels


def test_masking_hides_the_exact_share_of_regular_tokens_and_keeps_the_rest():
    sequence = np.append(generator().integers(100, 1000, size=2000), EOS)
    input_ids, labels = mask_tokens(sequence, generator(), mask_token_id=MASK, regular_token_ids=REGULAR)
    chosen = labels != -100
    assert chosen.sum() == 600 and not chosen[-1]
    assert np.array_equal(labels[chosen], sequence[chosen])
    assert np.array_equal(input_ids[~chosen], sequence[~chosen])
    masked, kept = input_ids[chosen] == MASK, input_ids[chosen] == sequence[chosen]
    assert abs(masked.mean() - 0.8) < 0.05 and abs(kept.mean() - 0.1) < 0.05
    assert np.isin(input_ids[chosen & (input_ids != MASK)], REGULAR).all()


def test_even_a_single_token_gets_a_label():
    _, labels = mask_tokens([101, EOS], generator(), mask_token_id=MASK, regular_token_ids=REGULAR)
    assert labels.tolist() == [101, -100]


def test_the_same_seed_gives_the_same_pair():
    document = np.arange(100, 150)
    for objective in (
        lambda draws: split_for_next_word(document, draws, eos_token_id=EOS),
        lambda draws: corrupt_spans(document, draws, sentinel_token_ids=SENTINELS, eos_token_id=EOS),
        lambda draws: mask_tokens(document, draws, mask_token_id=MASK, regular_token_ids=REGULAR),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(objective(generator(7)), objective(generator(7)), strict=True))
        assert any(
            not np.array_equal(objective(generator(7))[0], objective(generator(seed))[0]) for seed in range(8, 12)
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_for_next_word([], generator(), eos_token_id=EOS), r"at least one id, but its shape is \(0,\)"),
        (lambda: frame_for_causal_lm([[1]], bos_token_id=BOS, eos_token_id=EOS), r"its shape is \(1, 1\)"),
        (lambda: span_corruption_lengths(0), "`inputs_length` must be at least 1, but it is 0"),
        (lambda: span_corruption_lengths(9, 1.0), "`noise_density` must be above 0 and below 1, but it is 1.0"),
        (lambda: span_corruption_lengths(9, 0.5, 0.5), "`mean_noise_span_length` must be at least 1, but it is 0.5"),
        (
            lambda: mask_tokens(
                [101], generator(), mask_token_id=MASK, regular_token_ids=REGULAR, mlm_probability=1.5
            ),
            "`mlm_probability` must be above 0 and at most 1, but it is 1.5",
        ),
        (
            lambda: mask_tokens([101], generator(), mask_token_id=MASK, regular_token_ids=REGULAR, mask_fraction=0.95),
            "sum to at most 1",
        ),
        (
            lambda: mask_tokens([EOS], generator(), mask_token_id=MASK, regular_token_ids=REGULAR),
            "must hold a token that is not special",
        ),
    ],
)
def test_arguments_out_of_bounds_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
