"""Recall of image-text search.

Q = queries, T = targets, I = images, S = sentences, D = embedding width
"""

from typing import NamedTuple

import torch
from torch import Tensor

from multimodal.metrics.metric import METRICS, Metric

ROWS = 1024  # queries scored at a time


class RetrievalPredictions(NamedTuple):
    """For each query, the number of wrong targets before its best correct one: 0 is a hit at 1."""

    text_to_image: Tensor  # [S] int64
    image_to_text: Tensor  # [I] int64


def ranks(similarity: Tensor, positives: Tensor) -> Tensor:
    """For each query, the number of wrong targets that rank before its best correct one.

    similarity [Q, T]; positives [Q, T] bool, True where the target belongs to the query -> [Q] int64

    Ties count against the query: a constant model finds nothing. Raises ValueError for a query without a
    positive and for NaN.
    """
    if similarity.ndim != 2 or similarity.shape != positives.shape or positives.dtype != torch.bool:
        raise ValueError(
            "similarity: expected [Q, T] and positives [Q, T] bool, "
            f"got {list(similarity.shape)} and {list(positives.shape)} {positives.dtype}"
        )
    if similarity.isnan().any():
        raise ValueError("similarity: expected numbers, got NaN")
    missing = (~positives.any(1)).nonzero().flatten().tolist()
    if missing:
        raise ValueError(f"positives: expected one for every query, got none for {missing[:5]}")
    best = similarity.masked_fill(~positives, -torch.inf).amax(1, keepdim=True)  # [Q, T] -> [Q, 1]
    return ((similarity >= best) & ~positives).sum(1)


def image_text_ranks(images: Tensor, texts: Tensor, image_of_text: Tensor) -> RetrievalPredictions:
    """The ranks of both directions. Any of an image's sentences is correct for it.

    images [I, D], texts [S, D] unit length; image_of_text [S] int64, the image of each sentence
    """
    if image_of_text.shape != texts.shape[:1] or images.shape[1:] != texts.shape[1:]:
        raise ValueError(
            "image_of_text: expected images [I, D], texts [S, D] and image_of_text [S], got "
            f"{list(images.shape)}, {list(texts.shape)} and {list(image_of_text.shape)}"
        )
    numbers = torch.arange(len(images), device=image_of_text.device)
    text, image = (texts, image_of_text), (images, numbers)
    return RetrievalPredictions(_ranks_by_rows(*text, *image), _ranks_by_rows(*image, *text))


def _ranks_by_rows(queries: Tensor, query_image: Tensor, targets: Tensor, target_image: Tensor) -> Tensor:
    parts = [
        ranks(rows @ targets.T, own[:, None] == target_image)
        for rows, own in zip(queries.split(ROWS), query_image.split(ROWS), strict=True)
    ]
    return torch.cat(parts)


def recall_at_k(ranks: Tensor, k: int) -> Tensor:
    """Whether each query has a correct target among its first k.

    ranks [Q] int64 -> [Q] float64, 0 or 1; the mean is the recall@k
    """
    if not len(ranks):
        raise ValueError("ranks: expected at least one query, got none")
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    return (ranks < k).double()


def _recall(direction: str, k: int) -> Metric:
    return Metric("search", lambda found: recall_at_k(getattr(found, direction), k), "share")


for _direction in RetrievalPredictions._fields:
    for _k in (1, 5, 10):
        METRICS.register(f"{_direction}_recall@{_k}", _recall(_direction, _k))
