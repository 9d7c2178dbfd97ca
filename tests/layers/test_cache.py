"""The cache against a plain list of everything that it was told."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.layers import KVCache

LAYERS, HEADS, WIDTH, MEMORY = 2, 3, 4, 5

moves = st.lists(
    st.one_of(st.integers(1, 3), st.lists(st.integers(0, 10), min_size=1, max_size=6)), min_size=1, max_size=8
)


@given(st.integers(1, 4), moves)
def test_holds_what_was_fed_in_the_rows_that_were_selected(rows, moves):
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int, length: int) -> torch.Tensor:
        return torch.randn(rows, HEADS, length, WIDTH, generator=generator)

    memory = [(draw(rows, MEMORY), draw(rows, MEMORY)) for _ in range(LAYERS)]
    mask = torch.rand(rows, 1, 1, MEMORY, generator=generator) < 0.5
    cache = KVCache(list(memory), mask)
    assert cache.length == 0
    kept = torch.arange(rows)  # which row of the start each row of now is
    fed = [[draw(rows, 0), draw(rows, 0)] for _ in range(LAYERS)]
    for move in moves:
        if isinstance(move, int):
            for layer in range(LAYERS):
                new = draw(len(kept), move), draw(len(kept), move)
                fed[layer] = [torch.cat(pair, 2) for pair in zip(fed[layer], new, strict=True)]
                got = cache.append(layer, *new)
                assert all(torch.equal(a, b) for a, b in zip(got, fed[layer], strict=True))
        else:
            index = torch.tensor(move) % len(kept)
            cache.select(index)
            kept = kept[index]
            fed = [[part[index] for part in pair] for pair in fed]
        assert cache.length == fed[0][0].shape[2]
        assert torch.equal(cache.memory_mask, mask[kept])
        for layer in range(LAYERS):
            for mine, start in zip(cache.memory[layer], memory[layer], strict=True):
                assert torch.equal(mine, start[kept])


def test_a_cache_without_memory_selects_too():
    cache = KVCache([None])
    key = torch.arange(3.0).reshape(3, 1, 1, 1)
    cache.append(0, key, -key)
    cache.select(torch.tensor([2, 2, 0, 1]))
    assert cache.keys[0].flatten().tolist() == [2, 2, 0, 1]
    assert cache.values[0].flatten().tolist() == [-2, -2, 0, -1]
    assert cache.memory == [None]
