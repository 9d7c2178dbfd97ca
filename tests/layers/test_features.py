"""The output of an encoder."""

import pytest
import torch

from multimodal.layers import Encoded


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([2, 0, 2], [2, 0, 2]), ([True, False, True], [0, 2]), ([], [])],
    ids=["indices", "booleans", "no rows"],
)
def test_select_gives_the_rows_of_every_part(rows, expected):
    features, pooled, mask = torch.randn(3, 4, 5), torch.randn(3, 5), torch.rand(3, 4) < 0.5
    index = torch.tensor(rows, dtype=torch.bool if rows and rows[0] is True else torch.long)
    found = Encoded(features, pooled, mask).select(index)
    for got, whole in zip(found, (features, pooled, mask), strict=True):
        assert torch.equal(got, torch.stack([whole[row] for row in expected]) if expected else whole[:0])
    assert Encoded(None, pooled).select(index).features is None
    assert Encoded(features, pooled).select(index).mask is None
