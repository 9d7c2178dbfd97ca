"""Metrics of classification, search and captions: functions from predictions to values per sample, and `METRICS`."""

from multimodal.metrics.captioning import CaptionPredictions, bleu4, cider_per_image, distinct_captions
from multimodal.metrics.classification import (
    ClassificationPredictions,
    Reliability,
    accuracy_by_class,
    expected_calibration_error,
    per_class_accuracy,
    reliability,
    top_k_correct,
)
from multimodal.metrics.metric import METRICS, TASKS, Measure, Metric, compute_metrics, read_measures
from multimodal.metrics.retrieval import RetrievalPredictions, image_text_ranks, ranks, recall_at_k

__all__ = [
    "METRICS", "TASKS", "CaptionPredictions", "ClassificationPredictions", "Measure", "Metric", "Reliability",
    "RetrievalPredictions", "accuracy_by_class", "bleu4", "cider_per_image", "compute_metrics", "distinct_captions",
    "expected_calibration_error", "image_text_ranks", "per_class_accuracy", "ranks", "read_measures", "recall_at_k",
    "reliability", "top_k_correct",
]  # fmt: skip
