"""What an evaluation adds to a model card: figures, charts, a gallery of answers, and the speed on this machine."""

import importlib.util
import json
import statistics
import timeit
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from multimodal.evaluation.charts import GalleryEntry, gallery_chart, per_class_chart, reliability_chart
from multimodal.evaluation.report import Report
from multimodal.generation import Greedy
from multimodal.model import Model
from multimodal.preprocess import Sources, open_image

SAMPLES = json.loads(Path(__file__).with_name("sample_photos.json").read_text(encoding="utf-8"))
# The photographs in the scikit-image wheel, without drawings, cell textures and scans: file name -> one of `LABELS`
PHOTOS: dict[str, str] = SAMPLES["photos"]
LABELS: list[str] = SAMPLES["labels"]
THUMBNAIL = 320  # pixels, in the gallery
IMAGES, TEXTS, SIDE, ROUNDS = 64, 256, 256, 3  # of `measure_speed`: inputs of a round, side in pixels, rounds


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
    classes = model.classify(sources, LABELS)
    texts = [each.text for each in model.caption(sources)] if "caption" in model.can else [None] * len(classes)
    entries = []
    for path, name, found, text in zip(sources.items, sources.names, classes, texts, strict=True):
        image = open_image(path)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        entries.append(GalleryEntry(image, PHOTOS[name], found.label, found.score, text))
    return entries


def sample_photos() -> Sources:
    """The photographs, found without importing scikit-image. FileNotFoundError if it is not installed."""
    spec = importlib.util.find_spec("skimage")
    folders = [] if spec is None else [Path(each) / "data" for each in spec.submodule_search_locations or ()]
    paths = [folder / name for folder in folders for name in PHOTOS if (folder / name).is_file()]
    if not paths:
        raise FileNotFoundError(
            "photos: expected the photographs of scikit-image, which is not installed: "
            "pip install scikit-image, or pass your own with --photos FOLDER"
        )
    return Sources(paths, [path.name for path in paths], False, False)


def measure_speed(model: Model) -> dict[str, float]:
    """Images embedded, texts embedded and, if the model can, captions written per second (greedy).

    Medians of 3 rounds after a warm-up. Images are uint8 tensors [3, 256, 256]: decoding files is not measured.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (IMAGES, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images: list[Any] = list(torch.nn.functional.interpolate(noise, (SIDE, SIDE)))
    texts = [f"a photo of {i} people walking in a street" for i in range(TEXTS)]
    found = {
        "images embedded per second": IMAGES / _seconds(lambda: model.embed_images(images)),
        "texts embedded per second": TEXTS / _seconds(lambda: model.embed_texts(texts)),
    }
    if "caption" in model.can:
        found["captions per second"] = IMAGES / _seconds(lambda: model.caption(images, strategy=Greedy()))
    return {name: round(value, 1) for name, value in found.items()}


def _seconds(work: Callable[[], object]) -> float:
    return statistics.median(timeit.repeat(work, number=1, repeat=ROUNDS + 1)[1:])
