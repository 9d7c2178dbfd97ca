"""Keys and values kept while a decoder writes token by token."""

import torch
from torch import Tensor


class KVCache:
    """The keys and values of all tokens so far, and those of the memory, for every layer of a decoder.

    B = sequences, H = heads, L = tokens so far, M = memory length, D = width of a head

    `keys[i]`, `values[i]` [B, H, L, D] grow as tokens are fed; `memory[i]` is a pair [B, H, M, D], computed
    once, or None where the decoder has nothing to look at.
    """

    def __init__(self, memory: list[tuple[Tensor, Tensor] | None], memory_mask: Tensor | None = None) -> None:
        self.memory = memory
        self.memory_mask = memory_mask  # [B, 1, 1, M] bool, True = attend
        self.keys: list[Tensor | None] = [None] * len(memory)
        self.values: list[Tensor | None] = [None] * len(memory)

    @property
    def length(self) -> int:
        """Tokens seen so far."""
        return max((key.shape[2] for key in self.keys if key is not None), default=0)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add `key`, `value` [B, H, n, D] of new tokens to a layer; return all of them [B, H, L + n, D]."""
        old_key, old_value = self.keys[layer], self.values[layer]
        if old_key is not None and old_value is not None:
            key, value = torch.cat([old_key, key], 2), torch.cat([old_value, value], 2)
        self.keys[layer], self.values[layer] = key, value
        return key, value

    def select(self, rows: Tensor) -> None:
        """Keep the sequences `rows` [B'] (int64), in that order: beams move, finished sequences leave."""
        self.keys = [None if key is None else key[rows] for key in self.keys]
        self.values = [None if value is None else value[rows] for value in self.values]
        self.memory = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self.memory]
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask[rows]
