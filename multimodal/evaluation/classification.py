"""How often the right class comes first, and whether the probabilities can be believed.

N = images, C = classes, M = bins
"""

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 15


class ZeroShot(NamedTuple):
    """Zero-shot predictions for the images of a set that have a label."""

    probabilities: Tensor  # [N, C] float32
    labels: Tensor  # [N] int64
    class_names: list[str]


class Reliability(NamedTuple):
    """Predictions sorted into bins by confidence: what a reliability diagram draws. Empty bins hold 0."""

    confidence: Tensor  # [M] float64, mean probability of the predicted class
    accuracy: Tensor  # [M] float64, share of right predictions
    images: Tensor  # [M] int64, how many


def class_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """How many other classes score at least as high as the right one.

    scores [N, C], labels [N] int64 -> [N] int64
    """
    if scores.ndim != 2 or not scores.numel() or labels.shape != scores.shape[:1]:
        raise ValueError(
            "expected scores [N, C] and labels [N] of at least one image and class, "
            f"got {list(scores.shape)} and {list(labels.shape)}"
        )
    if scores.isnan().any():
        raise ValueError("scores: expected numbers, got NaN")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels: expected 0 to {scores.shape[1] - 1}, got {int(labels.min())} to {int(labels.max())}"
        )
    return (scores >= scores.gather(1, labels[:, None])).sum(1) - 1


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """The share of images whose class is among the first k; of equal scores, the right one comes last.

    scores [N, C], labels [N] int64
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    return (class_ranks(scores, labels) < k).double().mean().item()


def per_class_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Top-1 accuracy of the images of each class, [C] float64; NaN for a class without images.

    scores [N, C], labels [N] int64
    """
    right = (class_ranks(scores, labels) == 0).double()
    count = torch.bincount(labels, minlength=scores.shape[1])
    return torch.bincount(labels, right, minlength=scores.shape[1]) / count


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Confidence and accuracy in `bins` bins of equal width; a bin includes its upper edge.

    probabilities [N, C] with rows that sum to 1, labels [N] int64
    """
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, got {bins}")
    right = (class_ranks(probabilities, labels) == 0).double()
    sums = probabilities.double().sum(1)
    if probabilities.min() < 0 or (sums - 1).abs().max() > 1e-3:
        raise ValueError(
            "probabilities: expected rows of numbers from 0 that sum to 1, got a least number of "
            f"{probabilities.min():.3g} and sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    confidence = probabilities.double().amax(1)  # [N, C] -> [N]
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)
    where = torch.bucketize(confidence, edges[1:-1])  # [N], 0 to bins - 1
    count = torch.bincount(where, minlength=bins)
    some = count.clamp(min=1)
    return Reliability(
        torch.bincount(where, confidence, minlength=bins) / some,
        torch.bincount(where, right, minlength=bins) / some,
        count,
    )


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """ECE (Guo et al. 2017, equation 3), 0 to 1: the mean distance of confidence and accuracy over the bins,
    each weighed by its images. Arguments as in `reliability`.
    """
    confidence, accuracy, images = reliability(probabilities, labels, bins)
    return ((confidence - accuracy).abs() * images).sum().item() / len(labels)
