"""Which samples are in which batch: pure functions of (seed, step), so that any step can be repeated."""

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np


def rows_per_source(weights: Sequence[float], batch_size: int) -> list[int]:
    """Split `batch_size` rows by weight with the largest remainder method (the first on a tie).

    Raises ValueError for negative weights, if all are 0, and if a source with a weight would get no row.
    """
    if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ValueError(f"weights: expected numbers of at least 0, not all 0, got {list(weights)}")
    total = sum(weights)
    shares = [batch_size * weight / total for weight in weights]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(weights)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: batch_size - sum(counts)]:
        counts[i] += 1
    lost = [i for i, count in enumerate(counts) if not count and weights[i]]
    if lost:
        raise ValueError(
            f"batch_size {batch_size} is too small for the weights {list(weights)}: "
            f"source {lost[0]} would get no row; expected at least one row for each"
        )
    return counts


def interleave(counts: Sequence[int]) -> np.ndarray:
    """The source of each row, [sum(counts)], evenly mixed: any range of rows holds its share of each source."""
    source = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    return source[np.argsort(place, kind="stable")]


def connected_components(keys: Sequence[Sequence[Hashable]]) -> list[int]:
    """A number for each row, equal for rows that share a key directly or through other rows."""
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[Hashable, int] = {}
    for row, mine in enumerate(keys):
        for key in mine:
            a, b = root(first.setdefault(key, row)), root(row)
            parent[max(a, b)] = min(a, b)
    return [root(row) for row in range(len(keys))]


def epoch_samples(size: int, count: int, seed: Sequence[int], step: int) -> np.ndarray:
    """The samples of batch `step`, [count], if each epoch is a new permutation of `size` samples.

    A batch that ends one epoch and starts the next may have a sample twice: two rows of one group.
    """
    epoch, place = np.divmod(np.arange(step * count, (step + 1) * count), size)
    return np.concatenate([permutation(size, (*seed, e))[place[epoch == e]] for e in np.unique(epoch).tolist()])


@lru_cache(maxsize=8)  # the current epoch of a few sources
def permutation(size: int, seed: tuple[int, ...]) -> np.ndarray:
    """A random order of `size` samples, [size], that depends on the seed alone."""
    return np.random.default_rng(seed).permutation(size)
