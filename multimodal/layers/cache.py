"""What a decoder remembers while it generates: keys and values of the tokens so far, and of its memory.

B = sequences, H = heads, L = tokens so far, C = capacity, M = memory length, D = width of a head
"""

from typing import NamedTuple

from torch import Tensor


class Memory(NamedTuple):
    """Keys and values for cross-attention, computed once per input; see `TextDecoder.project_memory`.

    A decoder may attend to B rows of memory with B * K sequences, K following each other for each row.
    """

    layers: list[tuple[Tensor, Tensor] | None]  # per block: each [B, H, M, D]; None: no cross-attention
    mask: Tensor | None = None  # [B, 1, 1, M] bool, True = attend

    def select(self, rows: Tensor) -> "Memory":
        """The memory of the inputs `rows` [B'] (int64), in that order."""
        layers = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self.layers]
        return Memory(layers, None if self.mask is None else self.mask[rows])


class KVCache:
    """Keys and values of the tokens so far, for every layer of a decoder.

    The buffers [B, H, C, D] are allocated once, at the first token. `length` is the number of tokens stored.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self.buffers: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store `key`, `value` [B, H, n, D] of new tokens; returns all of them, views [B, H, L + n, D].

        `length` stays as it is until `advance`, so that every layer appends at the same place.
        """
        end = self.length + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"cache: expected at most {self.capacity} tokens, got {end}")
        pair = self.buffers[layer]
        if pair is None:
            shape = (*key.shape[:2], self.capacity, key.shape[3])
            pair = self.buffers[layer] = (key.new_empty(shape), value.new_empty(shape))
        keys, values = pair
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, count: int) -> None:
        """Count `count` tokens that every layer has appended."""
        self.length += count

    def reorder(self, rows: Tensor) -> None:
        """Keep the sequences `rows` [B'] (int64), in that order: beams move, branch or end."""
        for layer, pair in enumerate(self.buffers):
            if pair is not None:
                self.buffers[layer] = (self._take(pair[0], rows), self._take(pair[1], rows))

    def _take(self, buffer: Tensor, rows: Tensor) -> Tensor:
        filled = buffer[:, :, : self.length]
        if len(rows) != len(buffer):
            buffer = buffer.new_empty(len(rows), *buffer.shape[1:])
        buffer[:, :, : self.length] = filled[rows]
        return buffer

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cache: expected a length of 0 to {self.length}, got {length}")
        self.length = length
