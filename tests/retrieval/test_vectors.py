import pytest
import torch
import torch.nn.functional as F

from multimodal.retrieval import nearest


def plain(matrix, query, k):
    """The slow reference: score every row in Python, sort by score, then by row."""
    scores = [(float((row * query).sum()), i) for i, row in enumerate(matrix)]
    return [i for _, i in sorted(scores, key=lambda pair: (-pair[0], pair[1]))[:k]]


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize("k", [1, 5, 49, 50, 80])
def test_same_rows_as_the_plain_loop(chunk, k):
    generator = torch.Generator().manual_seed(k)
    matrix = F.normalize(torch.randn(50, 8, generator=generator), dim=-1)
    queries = F.normalize(torch.randn(3, 8, generator=generator), dim=-1)
    scores, rows = nearest(matrix, queries, k, chunk=chunk)
    assert scores.shape == rows.shape == (3, min(k, 50))
    for query, found, values in zip(queries, rows, scores, strict=True):
        assert found.tolist() == plain(matrix, query, k)
        torch.testing.assert_close(values, matrix[found] @ query)


@pytest.mark.parametrize("chunk", [2, 3, 100])
def test_ties_come_in_row_order(chunk):
    # whole numbers: the scores of equal rows are equal to the last bit
    matrix = torch.tensor([[1.0, 0], [0, 1], [1, 0], [2, 0], [1, 0], [0, 1], [2, 0], [1, 0]])
    scores, rows = nearest(matrix, torch.tensor([[1.0, 0]]), 5, chunk=chunk)
    assert rows.tolist() == [[3, 6, 0, 2, 4]]
    assert scores.tolist() == [[2, 2, 1, 1, 1]]


def test_nothing_to_find():
    scores, rows = nearest(torch.empty(0, 4), torch.ones(2, 4), 5)
    assert scores.shape == rows.shape == (2, 0)
    scores, rows = nearest(torch.ones(3, 4), torch.empty(0, 4), 5)
    assert scores.shape == rows.shape == (0, 3)


@pytest.mark.parametrize("k", [0, -1, True, 2.0])
def test_k_must_be_a_positive_whole_number(k):
    with pytest.raises(ValueError, match="at least 1, got"):
        nearest(torch.ones(3, 4), torch.ones(1, 4), k)


def test_queries_must_fit():
    with pytest.raises(ValueError, match=r"queries: expected \[Q, 4\].*got \[1, 5\]"):
        nearest(torch.ones(3, 4), torch.ones(1, 5), 1)
    with pytest.raises(ValueError, match="expected finite values, got NaN or infinity"):
        nearest(torch.ones(3, 4), torch.tensor([[1.0, 0, float("nan"), 0]]), 1)
