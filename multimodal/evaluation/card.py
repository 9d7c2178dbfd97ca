"""What an evaluation adds to a model card: figures, charts, a gallery and speed."""

import warnings
from typing import Any

from multimodal.evaluation.charts import GalleryEntry, gallery_chart, per_class_chart, reliability_chart
from multimodal.evaluation.report import Report
from multimodal.evaluation.sample_photos import LABELS, PHOTOS, sample_photos
from multimodal.evaluation.speed import measure_speed
from multimodal.model import Model
from multimodal.preprocess import open_image

THUMBNAIL = 320  # pixels, in the gallery


def evaluation_card(model: Model, report: Report) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Entries for the `card` in config.json, and the charts that they name: file name -> image.

    The gallery needs the photographs of scikit-image; without them it is left out with a warning.

    >>> card, charts = evaluation_card(model, report)  # doctest: +SKIP
    >>> update_card(folder, model.card | card, charts)  # doctest: +SKIP
    """
    charts: dict[str, tuple[str, bytes]] = {}  # title -> file name, image
    if report.zero_shot:
        charts["Accuracy of each class"] = "per_class.png", per_class_chart(report.zero_shot)
        charts["Reliability"] = "reliability.png", reliability_chart(report.zero_shot)
    try:
        charts["Failures"] = "failures.jpg", gallery_chart(gallery_entries(model))
    except FileNotFoundError as error:
        warnings.warn(f"no gallery: {error}", stacklevel=2)
    speed = {"device": str(model.device), **measure_speed(model)}
    titles = {title: name for title, (name, _) in charts.items()}
    return {"figures": report.figures(), "speed": speed, "charts": titles}, dict(charts.values())


def gallery_entries(model: Model) -> list[GalleryEntry]:
    """The model's answers on the sample photographs."""
    sources = sample_photos()
    classes = model.classify(sources, list(LABELS))
    texts = [each.text for each in model.caption(sources)] if "caption" in model.can else [None] * len(classes)
    entries = []
    for path, name, found, text in zip(sources.items, sources.names, classes, texts, strict=True):
        image = open_image(path)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        entries.append(GalleryEntry(image, PHOTOS[name], found.label, found.score, text))
    return entries
