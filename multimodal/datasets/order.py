"""Which samples are in which batch: pure functions of (seed, step), so that any step can be repeated."""

from collections.abc import Hashable, Sequence

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


class EpochOrder:
    """An endless order over `size` samples, taken `count` at a time: each sample once per epoch.

    Each epoch is a new permutation. A batch that holds the end of one epoch and the start of the next has no
    sample twice if `count <= size`.
    """

    def __init__(self, size: int, count: int, seed: Sequence[int]) -> None:
        if size < 1 or count < 1:
            raise ValueError(f"size and count: expected at least 1, got size {size} and count {count}")
        self.size, self.count, self.seed = size, count, list(seed)
        self._latest = (0, self._shuffle(0))  # an epoch and its permutation

    def take(self, step: int) -> np.ndarray:
        """The samples of batch `step`, [count]."""
        position = np.arange(step * self.count, (step + 1) * self.count)
        epoch, place = np.divmod(position, self.size)
        return np.concatenate([self.epoch(int(e))[place[epoch == e]] for e in np.unique(epoch)])

    def epoch(self, epoch: int) -> np.ndarray:
        """The permutation of one epoch, [size]."""
        start, order = self._latest
        if epoch != start and self.size >= 2 * self.count:  # the end of the previous epoch is never repaired
            start = max(epoch - 1, 0)
            order = self._shuffle(start)
        elif epoch < start:  # few samples: each epoch depends on all previous ones
            start, order = 0, self._shuffle(0)
        for e in range(start + 1, epoch + 1):
            order = self._repaired(order, e)
        self._latest = (epoch, order)
        return order

    def _repaired(self, before: np.ndarray, epoch: int) -> np.ndarray:
        """This epoch's permutation, whose head repeats no sample of the batch that it shares with `before`."""
        order = self._shuffle(epoch)
        tail = epoch * self.size % self.count  # rows of the shared batch from the previous epoch
        head = self.count - tail
        if not tail or self.count > self.size:
            return order
        taken = np.zeros(self.size, bool)
        taken[before[self.size - tail :]] = True
        clashes = np.flatnonzero(taken[order[:head]])
        spare = head + np.flatnonzero(~taken[order[head : self.count]])[: len(clashes)]
        order = order.copy()
        order[clashes], order[spare] = order[spare], order[clashes]
        return order

    def _shuffle(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self.seed, epoch]).permutation(self.size)
