"""Masks compared with loops."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.layers import causal_mask, lengths_until, mask_from_lengths


@given(st.integers(1, 6), st.integers(0, 6))
def test_causal_mask_attends_to_itself_and_to_earlier_positions(queries, before):
    keys = before + queries
    expected = [[key <= before + query for key in range(keys)] for query in range(queries)]
    assert causal_mask(queries, keys).tolist() == expected


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n))))
def test_lengths_end_with_the_first_eos(rows):
    tokens = torch.tensor(rows).reshape(len(rows), -1) if rows else torch.zeros(0, 4, dtype=torch.long)
    expected = [row.index(3) + 1 if 3 in row else len(row) for row in rows]
    assert lengths_until(tokens, 3).tolist() == expected


@given(st.integers(1, 8), st.lists(st.integers(0, 8), min_size=1))
def test_mask_from_lengths_is_true_at_the_front(length, lengths):
    expected = [[i < n for i in range(length)] for n in lengths]
    assert mask_from_lengths(torch.tensor(lengths), length).tolist() == expected
