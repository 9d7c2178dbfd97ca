"""How often search finds what belongs together.

Q = queries, T = targets, I = images, S = sentences, D = embedding width
"""

from collections.abc import Sequence

import torch
from torch import Tensor

KS = (1, 5, 10)
ROWS = 1024  # queries scored at a time


def ranks(similarity: Tensor, positives: Tensor) -> Tensor:
    """For each query, how many wrong targets come before its best right one.

    similarity [Q, T]; positives [Q, T] bool, True where the target belongs to the query -> [Q] int64

    A wrong target as similar as the right one comes before it: a model for which all is alike finds nothing.
    ValueError for a query without a positive and for NaN.
    """
    if similarity.ndim != 2 or similarity.shape != positives.shape or positives.dtype != torch.bool:
        raise ValueError(
            "expected similarity [Q, T] and positives [Q, T] bool, "
            f"got {list(similarity.shape)} and {list(positives.shape)} {positives.dtype}"
        )
    if similarity.isnan().any():
        raise ValueError("similarity: expected numbers, got NaN")
    lonely = (~positives.any(1)).nonzero().flatten().tolist()
    if lonely:
        raise ValueError(f"expected a positive for every query, got none for {lonely[:5]}")
    best = similarity.masked_fill(~positives, -torch.inf).amax(1, keepdim=True)  # [Q, T] -> [Q, 1]
    return ((similarity >= best) & ~positives).sum(1)


def recall_at_k(similarity: Tensor, positives: Tensor, ks: Sequence[int] = KS) -> dict[str, float]:
    """The share of queries with at least one positive among their first k targets, as `recall@k`.

    similarity [Q, T]; positives [Q, T] bool; ties as in `ranks`
    """
    return _recalls(ranks(similarity, positives), ks)


def image_text_recall(
    images: Tensor, texts: Tensor, image_of_text: Tensor, ks: Sequence[int] = KS
) -> dict[str, float]:
    """Both directions: `image_to_text_recall@k` (any of the image's sentences counts) and
    `text_to_image_recall@k` (over all sentences).

    images [I, D], texts [S, D] unit length; image_of_text [S] int64, the image of each sentence
    """
    if image_of_text.shape != texts.shape[:1] or images.shape[1:] != texts.shape[1:]:
        raise ValueError(
            "expected images [I, D], texts [S, D] and image_of_text [S], got "
            f"{list(images.shape)}, {list(texts.shape)} and {list(image_of_text.shape)}"
        )
    numbers = torch.arange(len(images), device=image_of_text.device)
    sides = {
        "image_to_text": (images, numbers, texts, image_of_text),
        "text_to_image": (texts, image_of_text, images, numbers),
    }
    found: dict[str, float] = {}
    for side, (queries, query_image, targets, target_image) in sides.items():
        parts = [
            ranks(rows @ targets.T, own[:, None] == target_image)
            for rows, own in zip(queries.split(ROWS), query_image.split(ROWS), strict=True)
        ]
        found |= {f"{side}_{name}": value for name, value in _recalls(torch.cat(parts), ks).items()}
    return found


def _recalls(places: Tensor, ks: Sequence[int]) -> dict[str, float]:
    if not len(places):
        raise ValueError("expected at least one query, got none")
    if any(k < 1 for k in ks):
        raise ValueError(f"ks: expected numbers from 1, got {list(ks)}")
    return {f"recall@{k}": (places < k).double().mean().item() for k in ks}
