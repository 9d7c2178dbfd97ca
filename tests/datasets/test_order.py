import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.datasets.order import connected_components, epoch_samples, interleave, permutation, rows_per_source


def test_rows_per_source_worked_by_hand():
    # 148.48, 58.88, 48.64: two rows are left over, for the second and the third
    assert rows_per_source([0.58, 0.23, 0.19], 256) == [148, 59, 49]
    assert rows_per_source([1, 1], 3) == [2, 1]  # the first on a tie
    assert rows_per_source([5], 7) == [7]
    with pytest.raises(ValueError, match="source 1 would get no row"):
        rows_per_source([100, 1], 10)


@given(weights=st.lists(st.integers(1, 20), min_size=1, max_size=3), batch_size=st.integers(1, 12))
def test_no_other_split_is_nearer_to_the_weights(weights, batch_size):
    shares = [Fraction(batch_size * weight, sum(weights)) for weight in weights]

    def distance(counts):
        return sum(abs(count - share) for count, share in zip(counts, shares, strict=True))

    splits = [
        split for split in itertools.product(range(batch_size + 1), repeat=len(weights)) if sum(split) == batch_size
    ]
    best = min(map(distance, splits))
    try:
        counts = rows_per_source(weights, batch_size)
    except ValueError:
        assert min(shares) < 1
    else:
        assert sum(counts) == batch_size
        assert min(counts) >= 1
        assert float(distance(counts) - best) == pytest.approx(0, abs=1e-9)


def test_interleave_worked_by_hand():
    assert interleave([4, 2]).tolist() == [0, 1, 0, 0, 1, 0]
    assert interleave([3]).tolist() == [0, 0, 0]


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_interleave_sorts_the_middles_of_equal_stretches(counts):
    middles = [(Fraction(2 * j + 1, 2 * count), source) for source, count in enumerate(counts) for j in range(count)]
    got = interleave(counts)
    assert got.tolist() == [source for _, source in sorted(middles)]
    for source, count in enumerate(counts):  # every head of the batch holds about its share
        found = np.cumsum(got == source)
        due = np.arange(1, len(got) + 1) * count / len(got)
        assert np.abs(found - due).max() <= 0.5 + 0.5 * len(counts)


def connected(keys):
    """By walking from row to row: the first row that each row is connected with."""
    first = []
    for start in range(len(keys)):
        seen, ahead = {start}, [start]
        while ahead:
            here = ahead.pop()
            near = {row for row in range(len(keys)) if set(keys[row]) & set(keys[here])} - seen
            seen |= near
            ahead += near
        first.append(min(seen))
    return first


def test_connected_components_worked_by_hand():
    assert connected_components([["a"], ["b"], ["a", "c"], ["d"], ["c"]]) == [0, 1, 0, 3, 0]
    assert connected_components([]) == []


@given(st.lists(st.lists(st.integers(0, 12), max_size=3), max_size=12))
def test_connected_components_against_a_plain_search(keys):
    assert connected_components(keys) == connected(keys)


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 25), count=st.integers(1, 30), seed=st.integers(0, 5))
def test_each_sample_once_an_epoch(size, count, seed):
    steps = -(-5 * size // count)
    batches = [epoch_samples(size, count, [seed], step).tolist() for step in range(steps)]
    line = list(itertools.chain.from_iterable(batches))
    for epoch in range(5):
        assert sorted(line[epoch * size : (epoch + 1) * size]) == list(range(size))
    for step in (steps - 1, steps // 2, 0):  # by itself, and backwards, as in order
        permutation.cache_clear()
        assert epoch_samples(size, count, [seed], step).tolist() == batches[step]


def test_epochs_and_seeds_differ():
    orders = [epoch_samples(40, 40, [seed], epoch).tolist() for seed in (0, 1) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 6
