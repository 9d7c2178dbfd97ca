"""Measures of classification, search and captions, and a model's figures on the validation sets."""

from multimodal.evaluation.benchmark import BENCHMARK, evaluate_model
from multimodal.evaluation.captioning import bleu4, cider, cider_per_image, distinct_captions
from multimodal.evaluation.classification import (
    Reliability,
    expected_calibration_error,
    per_class_accuracy,
    reliability,
    top_k_accuracy,
)
from multimodal.evaluation.report import Measure, Report
from multimodal.evaluation.retrieval import image_text_recall, recall_at_k
from multimodal.evaluation.validation import (
    EvaluatedModel,
    Validation,
    ValidationConfig,
    ValidationSet,
    ZeroShot,
)

__all__ = [
    "BENCHMARK",
    "EvaluatedModel",
    "Measure",
    "Reliability",
    "Report",
    "Validation",
    "ValidationConfig",
    "ValidationSet",
    "ZeroShot",
    "bleu4",
    "cider",
    "cider_per_image",
    "distinct_captions",
    "evaluate_model",
    "expected_calibration_error",
    "image_text_recall",
    "per_class_accuracy",
    "recall_at_k",
    "reliability",
    "top_k_accuracy",
]
