"""Evaluation of a model: validation sets, reports, charts, speed and the model card."""

from multimodal.evaluation.card import LABELS, PHOTOS, evaluation_card, gallery_entries, measure_speed, sample_photos
from multimodal.evaluation.charts import GalleryEntry, gallery_chart, per_class_chart, reliability_chart
from multimodal.evaluation.report import Report
from multimodal.evaluation.validation import BENCHMARK, Validation, ValidationConfig, ValidationSet, evaluate_model

__all__ = [
    "BENCHMARK", "LABELS", "PHOTOS", "GalleryEntry", "Report", "Validation", "ValidationConfig", "ValidationSet",
    "evaluate_model", "evaluation_card", "gallery_chart", "gallery_entries", "measure_speed", "per_class_chart",
    "reliability_chart", "sample_photos",
]  # fmt: skip
