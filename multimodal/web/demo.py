"""A demo of a model: its classes, captions and searches on some photographs."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import multimodal as mm
from multimodal.evaluation import LABELS, sample_photos
from multimodal.metrics import read_measures
from multimodal.model import Model
from multimodal.preprocess import resolve
from multimodal.results import Hit, Results
from multimodal.web.page import Demo, Photo, Search

# Default queries and labels, the title of each metric on the page, and the legend
TEXTS = json.loads(Path(__file__).with_name("demo.json").read_text(encoding="utf-8"))
TOP_K = 4  # scores per photograph and hits per search


def make_demo(
    model: Model, images: Any = None, labels: Sequence[str] | None = None, queries: Sequence[str] | None = None
) -> Demo:
    """Classify, caption and search photographs.

    images: as in `Model`; defaults to the photographs of scikit-image.
    labels, queries: what the photographs may show, and texts to search for; both have defaults.
    Unreadable images are listed in `.rejected`. Raises ValueError if none can be used.
    """
    start = time.perf_counter()
    if labels is None:
        labels = LABELS if images is None else TEXTS["own_labels"]
    if queries is None:
        queries = TEXTS["searches" if images is None else "own_searches"]
    sources = (sample_photos() if images is None else resolve(images))._replace(single=False)
    classes: Results[Any] = model.classify(sources, list(labels), top_k=TOP_K)
    lost = {item.name: item.reason for item in classes.rejected}
    if not classes:
        raise ValueError(f"images: expected some that can be used, got none of {len(sources.items)}: {lost}")
    used = [pair for pair in zip(sources.items, sources.names, strict=True) if pair[1] not in lost]
    sources = sources._replace(items=[item for item, _ in used], names=[name for _, name in used])
    captions: list[str | None] = [None] * len(used)
    if "caption" in model.can:
        captions = [each.text for each in model.caption(sources)]
    photos = [Photo(*answers) for answers in zip(classes, captions, strict=True)]
    scores = model.similarity(sources, list(queries)).T  # [queries, photos]
    searches = []
    for query, row in zip(queries, scores, strict=True):
        best = [(float(row[i]), classes[i].item) for i in row.argsort(descending=True, stable=True)[:TOP_K].tolist()]
        searches.append(Search(query, [Hit(item.name, score, item) for score, item in best]))
    took = f"{time.perf_counter() - start:.1f} s from {len(photos)} images"
    figures = _figures(model)
    notes = [model.card[key] for key in ("about", "limits") if isinstance(model.card.get(key), str)]
    footer = [f"Made by multimodal {mm.__version__} with {model!r} in {took}."]
    if figures:
        notes.append("The figures were measured on images that the model was not trained on.")
        footer.insert(0, TEXTS["legend"])
    notes.append("The answers below are the model's own, unselected and uncorrected. Some are wrong.")
    size = model.transform.image_size
    facts = {"parameters": f"{model.num_parameters / 1e6:.1f} M", "input": f"{size} × {size} pixels"}
    facts |= {"device": str(model.device), **figures}
    return Demo(model.name, facts, notes, labels, photos, searches, footer, classes.rejected)


def _figures(model: Model) -> dict[str, str]:
    """The headline figures on the model's card, by title."""
    return {
        f"{each.dataset} · {TEXTS['headlines'][each.measure]}": each.shown
        for each in read_measures(model.card.get("figures"))
        if each.measure in TEXTS["headlines"] and each.strategy is None
    }
