"""Evaluation of a model: validation sets, reports, charts, speed and the model card."""

from multimodal.evaluation.benchmark import BENCHMARK, evaluate_model
from multimodal.evaluation.card import evaluation_card, gallery_entries
from multimodal.evaluation.charts import GalleryEntry, gallery_chart, per_class_chart, reliability_chart
from multimodal.evaluation.report import Report
from multimodal.evaluation.sample_photos import LABELS, PHOTOS, sample_photos
from multimodal.evaluation.speed import measure_speed
from multimodal.evaluation.validation import Validation, ValidationConfig, ValidationSet

__all__ = [
    "BENCHMARK", "LABELS", "PHOTOS", "GalleryEntry", "Report", "Validation", "ValidationConfig", "ValidationSet",
    "evaluate_model", "evaluation_card", "gallery_chart", "gallery_entries", "measure_speed", "per_class_chart",
    "reliability_chart", "sample_photos",
]  # fmt: skip
