"""The cache compared with plain lists of everything that was appended."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.layers import KVCache, Memory

LAYERS, HEADS, WIDTH, CAPACITY = 2, 3, 4, 30

moves = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3)),
        st.tuples(st.just("reorder"), st.lists(st.integers(0, 10), min_size=1, max_size=6)),
        st.tuples(st.just("truncate"), st.integers(0, 10)),
    ),
    min_size=1,
    max_size=10,
)


@given(st.integers(1, 4), moves)
def test_it_holds_what_was_appended_to_the_rows_that_remain(rows, moves):
    generator = torch.Generator().manual_seed(0)
    cache = KVCache(LAYERS, CAPACITY)
    # stored[layer][row] is the list of (key, value) of that row's tokens, each [H, D]
    stored = [[[] for _ in range(rows)] for _ in range(LAYERS)]
    for move, argument in moves:
        if move == "append":
            before = cache.length
            for layer in range(LAYERS):
                key, value = torch.randn(2, len(stored[layer]), HEADS, argument, WIDTH, generator=generator)
                for row, tokens in enumerate(stored[layer]):
                    tokens += [(key[row, :, i], value[row, :, i]) for i in range(argument)]
                got = cache.append(layer, key, value)
                assert cache.length == before  # every layer appends at the same place
                for part in (0, 1):
                    expected = [torch.stack([token[part] for token in tokens], 1) for tokens in stored[layer]]
                    assert torch.equal(got[part], torch.stack(expected))
            cache.advance(argument)
        elif move == "reorder" and cache.length:
            index = [row % len(stored[0]) for row in argument]
            cache.reorder(torch.tensor(index))
            stored = [[list(layer[row]) for row in index] for layer in stored]
        elif move == "truncate":
            length = min(argument, cache.length)
            cache.truncate(length)
            stored = [[tokens[:length] for tokens in layer] for layer in stored]
        assert cache.length == len(stored[0][0])


def test_buffers_are_allocated_once():
    cache = KVCache(1, 8)
    assert cache.buffers == [None]
    addresses = set()
    for i in range(8):
        key, value = cache.append(0, torch.full((2, 1, 1, 4), float(i)), torch.zeros(2, 1, 1, 4))
        cache.advance(1)
        addresses.add((key.data_ptr(), value.data_ptr()))
        assert key[0, 0, :, 0].tolist() == list(range(i + 1))
        cache.reorder(torch.tensor([1, 0]))
    assert len(addresses) == 1
    assert cache.buffers[0][0].shape == (2, 1, 8, 4)


def test_an_empty_cache_can_be_reordered():
    cache = KVCache(1, 8)
    cache.reorder(torch.tensor([0, 0, 1]))
    key, _ = cache.append(0, torch.ones(3, 1, 2, 4), torch.ones(3, 1, 2, 4))
    assert key.shape == (3, 1, 2, 4)


def test_branching_to_more_rows_keeps_the_capacity():
    cache = KVCache(1, 4)
    key = torch.arange(3.0).reshape(3, 1, 1, 1)
    cache.append(0, key, -key)
    cache.advance(1)
    cache.reorder(torch.tensor([2, 2, 0, 1]))
    keys, values = cache.append(0, torch.full((4, 1, 3, 1), 7.0), torch.full((4, 1, 3, 1), 8.0))
    assert keys[:, 0, :, 0].tolist() == [[2, 7, 7, 7], [2, 7, 7, 7], [0, 7, 7, 7], [1, 7, 7, 7]]
    assert values[:, 0, :, 0].tolist() == [[-2, 8, 8, 8], [-2, 8, 8, 8], [0, 8, 8, 8], [-1, 8, 8, 8]]


def test_mistakes():
    cache = KVCache(1, 4)
    with pytest.raises(ValueError, match="cache: expected at most 4 tokens, got 5"):
        cache.append(0, torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 2))
    cache.append(0, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    cache.advance(2)
    with pytest.raises(ValueError, match="cache: expected at most 4 tokens, got 5"):
        cache.append(0, torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2))
    for length in (-1, 3):
        with pytest.raises(ValueError, match=f"cache: expected a length of 0 to 2, got {length}"):
            cache.truncate(length)


@given(st.lists(st.integers(0, 2), max_size=6), st.booleans())
def test_select_gives_the_rows_of_a_memory(rows, masked):
    generator = torch.Generator().manual_seed(0)
    key, value = torch.randn(2, 3, HEADS, 5, WIDTH, generator=generator)
    mask = torch.rand(3, 1, 1, 5, generator=generator) < 0.5 if masked else None
    memory = Memory([None, (key, value)], mask)
    index = torch.tensor(rows, dtype=torch.long)
    found = memory.select(index)
    assert found.layers[0] is None
    for got, part in zip(found.layers[1], (key, value), strict=True):
        assert got.shape == (len(rows), HEADS, 5, WIDTH)
        assert all(torch.equal(row, part[i]) for row, i in zip(got, rows, strict=True))
    if masked:
        assert found.mask.shape == (len(rows), 1, 1, 5)
        assert all(torch.equal(row, mask[i]) for row, i in zip(found.mask, rows, strict=True))
    else:
        assert found.mask is None
    assert memory.layers[1][0] is key  # the memory itself stays
