"""Measures of classification, search and captions, and a model's figures on the validation sets."""

from multimodal.evaluation.benchmark import BENCHMARK, evaluate_model
from multimodal.evaluation.captioning import bleu4, cider, cider_per_image, distinct_captions
from multimodal.evaluation.charts import Answer, gallery_chart, per_class_chart, reliability_chart
from multimodal.evaluation.classification import (
    Reliability,
    ZeroShot,
    expected_calibration_error,
    per_class_accuracy,
    reliability,
    top_k_accuracy,
)
from multimodal.evaluation.report import Measure, Report
from multimodal.evaluation.retrieval import image_text_recall, recall_at_k
from multimodal.evaluation.speed import measure_speed
from multimodal.evaluation.validation import (
    EvaluatedModel,
    Validation,
    ValidationConfig,
    ValidationSet,
)

__all__ = [
    "BENCHMARK",
    "Answer",
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
    "gallery_chart",
    "image_text_recall",
    "measure_speed",
    "per_class_accuracy",
    "per_class_chart",
    "recall_at_k",
    "reliability",
    "reliability_chart",
    "top_k_accuracy",
]
