import numpy as np
import pytest

from kakehashi.training.objectives import (
    corrupt_spans,
    draw_splits,
    frame_for_causal_lm,
    longest_corruptible_length,
    mask_tokens,
    span_corruption_lengths,
    split_for_next_word,
)
from kakehashi.training.sequences import Sequences

BOS, EOS, MASK = 1, 2, 3
SENTINELS = list(range(10, 60))
REGULAR = np.arange(100, 1000)


def generator(seed=0):
    return np.random.default_rng(seed)


def one(document):
    return Sequences.of([document])


def listed(pair):
    """Source and target of each document."""
    return list(zip(*(side.split() for side in pair), strict=True))


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


def test_context_and_continuation_are_the_document():
    documents = [generator(seed).integers(100, 1000, size=2 + 7 * seed) for seed in range(5)]
    pieces = Sequences.of(documents)
    pairs = split_for_next_word(pieces, draw_splits(pieces.lengths, generator()), eos_token_id=EOS)
    for document, (source, target) in zip(documents, listed(pairs), strict=True):
        assert source[-1] == EOS and target[-1] == EOS and len(source) > 1 and len(target) > 1
        assert np.array_equal(np.concatenate((source[:-1], target[:-1])), document)


def test_every_split_point_is_equally_likely():
    values, counts = np.unique(draw_splits(np.full(3000, 4), generator()), return_counts=True)
    assert values.tolist() == [1, 2, 3]
    assert (abs(counts - 1000) < 120).all()


def test_a_document_of_one_token_follows_from_nothing():
    splits = draw_splits(np.array([1]), generator())
    [(source, target)] = listed(split_for_next_word(one([101]), splits, eos_token_id=EOS))
    assert source.tolist() == [EOS] and target.tolist() == [101, EOS]


@pytest.mark.parametrize("density", [0.05, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("mean_length", [1.0, 3.0, 8.0])
def test_corrupting_and_restoring_gives_back_the_documents_and_lengths_are_known(density, mean_length):
    documents = [generator(length).integers(100, 1000, size=length) for length in [1, 2, 48, 3, 5, 12, 48]]
    pairs = corrupt_spans(
        Sequences.of(documents),
        generator(),
        sentinel_token_ids=SENTINELS,
        eos_token_id=EOS,
        noise_density=density,
        mean_noise_span_length=mean_length,
    )
    for document, (source, target) in zip(documents, listed(pairs), strict=True):
        assert (len(source), len(target)) == span_corruption_lengths(len(document), density, mean_length)
        assert source[-1] == EOS and target[-1] == EOS
        used = [token for token in source if token in SENTINELS]
        assert used == SENTINELS[: len(used)] == [token for token in target if token in SENTINELS]
        assert np.array_equal(restore(source, target), document)


def test_the_drawn_example_has_the_drawn_lengths():
    assert span_corruption_lengths(12, 0.25, 1.5) == (12, 6)
    sources, targets = span_corruption_lengths(np.array([1, 12]), 0.25, 1.5)
    assert sources.tolist() == [2, 12] and targets.tolist() == [3, 6]


def test_all_ways_to_place_spans_are_equally_likely():
    # Of 6 tokens 2 are cut out, in 2 spans that do not touch: 10 ways.
    documents = Sequences.of([np.arange(100, 106)] * 5000)
    _, targets = corrupt_spans(
        documents,
        generator(),
        sentinel_token_ids=SENTINELS,
        eos_token_id=EOS,
        noise_density=0.33,
        mean_noise_span_length=1.0,
    )
    ways, counts = np.unique([target[[1, 3]] for target in targets.split()], axis=0, return_counts=True)
    assert len(ways) == 10 and (ways[:, 1] - ways[:, 0] > 1).all()
    assert (abs(counts - 500) < 90).all()


def test_too_few_sentinels_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match="needs 5 sentinels, but the tokenizer has 4: cut documents shorter"):
        corrupt_spans(
            Sequences.of([[100], range(100, 200)]), generator(), sentinel_token_ids=SENTINELS[:4], eos_token_id=EOS
        )


@pytest.mark.parametrize(("source", "target"), [(128, 128), (512, 114), (20, 200), (2, 3)])
def test_the_longest_document_fits_and_one_more_token_does_not(source, target):
    longest = longest_corruptible_length(source, target)
    assert np.all(np.array(span_corruption_lengths(longest)) <= (source, target))
    assert np.any(np.array(span_corruption_lengths(longest + 1)) > (source, target))


def test_lengths_that_hold_nothing_are_refused():
    with pytest.raises(ValueError, match="needs at least 2 source and 3 target tokens"):
        longest_corruptible_length(1, 1)


def test_causal_labels_stand_where_their_tokens_stand():
    [(input_ids, labels), _] = listed(
        frame_for_causal_lm(Sequences.of([[101, 102], [103]]), bos_token_id=BOS, eos_token_id=EOS)
    )
    assert input_ids.tolist() == [BOS, 101, 102, EOS]
    assert labels.tolist() == [-100, 101, 102, EOS]


def test_masking_hides_the_exact_share_of_regular_tokens_and_keeps_the_rest():
    sequences = [np.append(generator(size).integers(100, 1000, size=size), EOS) for size in (2000, 30, 7)]
    pairs = listed(mask_tokens(Sequences.of(sequences), generator(), mask_token_id=MASK, regular_token_ids=REGULAR))
    for sequence, (input_ids, labels) in zip(sequences, pairs, strict=True):
        chosen = labels != -100
        assert chosen.sum() == round(0.3 * (len(sequence) - 1)) and not chosen[-1]
        assert np.array_equal(labels[chosen], sequence[chosen])
        assert np.array_equal(input_ids[~chosen], sequence[~chosen])
        assert np.isin(input_ids[chosen & (input_ids != MASK)], REGULAR).all()
    sequence, (input_ids, labels) = sequences[0], pairs[0]
    chosen = labels != -100
    masked, kept = input_ids[chosen] == MASK, input_ids[chosen] == sequence[chosen]
    assert abs(masked.mean() - 0.8) < 0.05 and abs(kept.mean() - 0.1) < 0.05


def test_even_a_single_token_gets_a_label():
    _, labels = mask_tokens(one([101, EOS]), generator(), mask_token_id=MASK, regular_token_ids=REGULAR)
    assert labels.ids.tolist() == [101, -100]


def test_the_same_seed_gives_the_same_pair():
    document = one(np.arange(100, 150))
    for objective in (
        lambda draws: split_for_next_word(document, draw_splits(document.lengths, draws), eos_token_id=EOS),
        lambda draws: corrupt_spans(document, draws, sentinel_token_ids=SENTINELS, eos_token_id=EOS),
        lambda draws: mask_tokens(document, draws, mask_token_id=MASK, regular_token_ids=REGULAR),
    ):
        [first], [second] = listed(objective(generator(7))), listed(objective(generator(7)))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        others = [objective(generator(seed))[0].ids for seed in range(8, 12)]
        assert any(not np.array_equal(first[0], other) for other in others)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: split_for_next_word(Sequences.of([[5], []]), np.array([0, 0]), eos_token_id=EOS),
            "must hold at least one id, but number 1 holds none",
        ),
        (lambda: frame_for_causal_lm(one([]), bos_token_id=BOS, eos_token_id=EOS), "number 0 holds none"),
        (
            lambda: corrupt_spans(one([]), generator(), sentinel_token_ids=SENTINELS, eos_token_id=EOS),
            "number 0 holds none",
        ),
        (lambda: span_corruption_lengths(0), "`inputs_length` must be at least 1, but it is 0"),
        (lambda: span_corruption_lengths(9, 1.0), "`noise_density` must be above 0 and below 1, but it is 1.0"),
        (lambda: span_corruption_lengths(9, 0.5, 0.5), "`mean_noise_span_length` must be at least 1, but it is 0.5"),
        (
            lambda: mask_tokens(
                one([101]), generator(), mask_token_id=MASK, regular_token_ids=REGULAR, mlm_probability=1.5
            ),
            "`mlm_probability` must be above 0 and at most 1, but it is 1.5",
        ),
        (
            lambda: mask_tokens(one([EOS]), generator(), mask_token_id=MASK, regular_token_ids=REGULAR),
            "must hold a token that is not special",
        ),
    ],
)
def test_arguments_out_of_bounds_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
