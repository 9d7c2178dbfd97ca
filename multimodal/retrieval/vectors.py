"""Exact nearest-neighbour search by inner product.

Legend: N rows, Q queries, D dimensions, K = min(k, N) results.
"""

import torch
from torch import Tensor

from multimodal.config import check_at_least


def nearest(matrix: Tensor, queries: Tensor, k: int, chunk: int = 1 << 16) -> tuple[Tensor, Tensor]:
    """The `k` rows of `matrix` with the largest inner product with each query, exactly.

    `matrix` [N, D] and `queries` [Q, D] float32 on one device; rows of unit length make it the cosine.
    Returns (scores [Q, K], rows [Q, K] int64), best first, equal scores in row order, K = min(k, N).
    At most `chunk` rows are scored at a time, so that memory stays at Q x chunk scores.
    Raises ValueError for k < 1, for shapes that do not fit and for queries that are not finite.
    """
    check_at_least(1, k=k)
    if queries.ndim != 2 or matrix.ndim != 2 or queries.shape[1] != matrix.shape[1]:
        raise ValueError(f"queries: expected [Q, {matrix.shape[-1]}], as wide as the index, got {list(queries.shape)}")
    if not queries.isfinite().all():
        raise ValueError("queries: expected finite values, got NaN or infinity")
    scores = [queries.new_empty(0) for _ in queries]
    rows = [torch.empty(0, dtype=torch.int64, device=queries.device) for _ in queries]
    for start in range(0, len(matrix), chunk):
        block = queries @ matrix[start : start + chunk].T  # [Q, D] x [D, n] -> [Q, n]
        kept = min(k, block.shape[1])
        floors = block.topk(kept).values[:, -1]  # [Q], the worst score that can still be among the best
        for query, floor in enumerate(floors):
            # all that reach the floor, in row order, however many tie: topk alone would pick any of them
            found = (block[query] >= floor).nonzero().squeeze(1)  # [n]
            candidates = torch.cat([scores[query], block[query, found]])
            places = torch.cat([rows[query], found + start])
            order = candidates.argsort(descending=True, stable=True)[:k]
            scores[query], rows[query] = candidates[order], places[order]
    if not scores:
        empty = queries.new_empty(0, min(k, len(matrix)))
        return empty, empty.long()
    return torch.stack(scores), torch.stack(rows)
