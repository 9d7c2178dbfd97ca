"""Accuracy and calibration.

N = images, C = classes, M = bins
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from multimodal.metrics.metric import METRICS, Metric

BINS = 15


class ClassificationPredictions(NamedTuple):
    """Predictions for the images of a set that have a label."""

    probabilities: Tensor  # [N, C] float32
    labels: Tensor  # [N] int64
    class_names: list[str]


class Reliability(NamedTuple):
    """The bins of a reliability diagram: predictions grouped by confidence. Empty bins hold 0."""

    confidence: Tensor  # [M] float64, mean probability of the predicted class
    accuracy: Tensor  # [M] float64, share of correct predictions
    images: Tensor  # [M] int64, number of images


def top_k_correct(scores: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """Whether the true class of each image is among its first k. Ties count against the true class.

    scores [N, C], labels [N] int64 -> [N] float64, 0 or 1; the mean is the top-k accuracy
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    if scores.ndim != 2 or not scores.numel() or labels.shape != scores.shape[:1]:
        raise ValueError(
            "scores: expected [N, C] and labels [N] of at least one image and class, "
            f"got {list(scores.shape)} and {list(labels.shape)}"
        )
    if scores.isnan().any():
        raise ValueError("scores: expected numbers, got NaN")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"labels: expected 0 to {scores.shape[1] - 1}, got {int(labels.min())} to {int(labels.max())}")
    ranks = (scores >= scores.gather(1, labels[:, None])).sum(1)  # [N], 1 for the best
    return (ranks <= k).double()


def per_class_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Top-1 accuracy on the images of each class, [C] float64; NaN for a class without images.

    scores [N, C], labels [N] int64
    """
    correct, classes = top_k_correct(scores, labels), scores.shape[1]
    return torch.bincount(labels, correct, minlength=classes) / torch.bincount(labels, minlength=classes)


def accuracy_by_class(found: ClassificationPredictions) -> dict[str, float | None]:
    """Class name -> top-1 accuracy, best first; None for a class without images."""
    accuracy = per_class_accuracy(found.probabilities, found.labels)
    known = dict(zip(found.class_names, accuracy.tolist(), strict=True))
    best = sorted(known, key=lambda name: (math.isnan(known[name]), -known[name], name))
    return {name: None if math.isnan(known[name]) else round(known[name], 4) for name in best}


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Confidence and accuracy in `bins` bins of equal width. A bin includes its upper edge.

    probabilities [N, C] with rows that sum to 1, labels [N] int64
    """
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, got {bins}")
    correct = top_k_correct(probabilities, labels)
    sums = probabilities.double().sum(1)
    if probabilities.min() < 0 or (sums - 1).abs().max() > 1e-3:
        raise ValueError(
            "probabilities: expected non-negative rows that sum to 1, got a minimum of "
            f"{probabilities.min():.3g} and sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    confidence = probabilities.double().amax(1)  # [N, C] -> [N]
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)
    where = torch.bucketize(confidence, edges[1:-1])  # [N], 0 to bins - 1
    count = torch.bincount(where, minlength=bins)
    mean_confidence = torch.bincount(where, confidence, minlength=bins) / count.clamp(min=1)
    accuracy = torch.bincount(where, correct, minlength=bins) / count.clamp(min=1)
    return Reliability(mean_confidence, accuracy, count)


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """ECE (Guo et al. 2017, equation 3), 0 to 1: the mean distance between confidence and accuracy over the
    bins, weighted by their images. Arguments as in `reliability`.
    """
    confidence, accuracy, images = reliability(probabilities, labels, bins)
    return ((confidence - accuracy).abs() * images).sum().item() / len(labels)


def _top(k: int) -> Metric:
    return Metric("classify", lambda found: top_k_correct(found.probabilities, found.labels, k), "share")


METRICS.register("zero_shot_top1", _top(1))
METRICS.register("zero_shot_top5", _top(5))
METRICS.register("ECE", Metric("classify", lambda found: expected_calibration_error(*found[:2])))
