"""Which samples make which batch: pure functions of (seed, step), so that any step can be made anew."""

from collections.abc import Hashable, Sequence

import numpy as np


def rows_per_source(weights: Sequence[float], batch_size: int) -> list[int]:
    """Split `batch_size` rows by weight, as near as whole numbers can be (largest remainder; first on a tie).

    Raises ValueError for weights below 0 or all 0, and when a source of some weight would get no row at all.
    """
    if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ValueError(f"weights: expected numbers from 0, not all 0, got {list(weights)}")
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
    """The source of each row, [sum(counts)]: every stretch of rows holds its share of each source."""
    source = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    return source[np.argsort(place, kind="stable")]


def joined(keys: Sequence[Sequence[Hashable]]) -> list[int]:
    """A number for each row: rows that share a key, directly or by way of others, get the same one."""
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

    Each epoch is a new permutation. Where a batch holds the end of one epoch and the start of the next, no
    sample is in it twice as long as `count <= size`.
    """

    def __init__(self, size: int, count: int, seed: Sequence[int]) -> None:
        if size < 1 or count < 1:
            raise ValueError(f"expected at least one sample and one row, got size {size} and count {count}")
        self.size, self.count, self.seed = size, count, list(seed)
        self._latest: tuple[int, np.ndarray] | None = None

    def take(self, step: int) -> np.ndarray:
        """The samples of batch `step`, [count]."""
        position = np.arange(step * self.count, (step + 1) * self.count)
        epoch, place = np.divmod(position, self.size)
        return np.concatenate([self.epoch(int(e))[place[epoch == e]] for e in np.unique(epoch)])

    def epoch(self, epoch: int) -> np.ndarray:
        """The order of one epoch, [size]: a permutation."""
        if self._latest is not None and self._latest[0] == epoch:
            return self._latest[1]
        if self.size >= 2 * self.count:  # the repair of the epoch before has not touched its end
            order = self._joined(self._shuffle(epoch - 1), epoch) if epoch else self._shuffle(0)
        else:  # few samples: each epoch depends on all before
            known = self._latest if self._latest is not None and self._latest[0] < epoch else None
            start, order = known if known is not None else (0, self._shuffle(0))
            for e in range(start + 1, epoch + 1):
                order = self._joined(order, e)
        self._latest = (epoch, order)
        return order

    def _joined(self, before: np.ndarray, epoch: int) -> np.ndarray:
        """This epoch's permutation with its head repaired: it repeats nothing of the batch that it shares."""
        order = self._shuffle(epoch)
        tail = epoch * self.size % self.count  # rows of the shared batch that belong to the epoch before
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
