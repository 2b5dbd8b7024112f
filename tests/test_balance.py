import pytest

from kakehashi.tokenization.balance import balance_sources, keep_shares


@pytest.mark.parametrize(
    ("exponent", "expected"), [(1.0, [1.0, 1.0, 1.0]), (0.5, [0.5, 1.0, 0.25]), (0.0, [0.25, 1.0, 0.0625])]
)
def test_a_larger_source_is_thinned_by_the_power_of_its_size(exponent, expected):
    assert keep_shares([8_000, 2_000, 32_000], exponent) == expected


def test_sizes_are_bytes_and_the_smallest_source_is_kept_whole():
    sources = [lambda: ["猫"] * 1000, lambda: ["cat"] * 4000]
    texts = list(balance_sources(sources, 0.0))
    assert texts.count("猫") == 1000
    assert 900 < texts.count("cat") < 1100


def test_the_same_seed_chooses_the_same_texts():
    sources = [lambda: map(str, range(10, 99)), lambda: map(str, range(100, 999))]
    assert list(balance_sources(sources, 0.5, seed=1)) == list(balance_sources(sources, 0.5, seed=1))
    assert list(balance_sources(sources, 0.5, seed=1)) != list(balance_sources(sources, 0.5, seed=2))


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"`exponent` of the balance must be between 0 and 1, got 1\.5"):
        keep_shares([1], 1.5)
    with pytest.raises(ValueError, match="source number 1 holds none"):
        list(balance_sources([lambda: ["a"], list], 0.5))
