"""A demo of a model: its classes, captions and searches on some photographs."""

import time
from collections.abc import Sequence
from typing import Any

import multimodal as mm
from multimodal.evaluation import LABELS, sample_photos
from multimodal.metrics import read_measures
from multimodal.model import Model
from multimodal.preprocess import resolve
from multimodal.results import Hit, Results
from multimodal.web.page import Demo, Photo, Search, render_page

SEARCHES = (
    "a cat looking at the camera",
    "a cup of coffee on a wooden table",
    "a red motorcycle",
    "a rocket at night",
    "a woman in an orange space suit",
    "a man taking a picture",
)
OWN_LABELS = (
    *("person", "group of people", "child", "dog", "cat", "bird", "horse", "flower", "forest", "mountain"),
    *("beach", "lake", "snow", "sunset", "city street", "building", "room", "food", "car", "bicycle", "boat"),
)
OWN_SEARCHES = (
    "people smiling",
    "children playing",
    "a dog running",
    "a street in a city",
    "mountains and a lake",
    "food on a table",
)
TOP_K = 4  # scores per photograph and hits per search
HEADLINES = {  # metric -> its title on the page
    "zero_shot_top1": "top-1 accuracy",
    "text_to_image_recall@10": "recall@10",
    "CIDEr": "captions, CIDEr",
}
LEGEND = (
    "The figures. Top-1 accuracy: share of images whose class the model ranks first among all classes of the "
    "set. Recall@10: share of sentences whose image is among the first ten results. CIDEr: similarity of the "
    "captions to sentences that people wrote."
)


def demo_page(model: Model, images: Any = None, **settings: Any) -> str:
    """The HTML page of `make_demo` with the same arguments.

    >>> Path("demo.html").write_text(demo_page(model, "photos/"))  # doctest: +SKIP
    """
    return render_page(make_demo(model, images, **settings))


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
        labels = LABELS if images is None else OWN_LABELS
    if queries is None:
        queries = SEARCHES if images is None else OWN_SEARCHES
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
        footer.insert(0, LEGEND)
    notes.append("The answers below are the model's own, unselected and uncorrected. Some are wrong.")
    size = model.transform.image_size
    facts = {"parameters": f"{model.num_parameters / 1e6:.1f} M", "input": f"{size} × {size} pixels"}
    facts |= {"device": str(model.device), **figures}
    return Demo(model.name, facts, notes, labels, photos, searches, footer, classes.rejected)


def _figures(model: Model) -> dict[str, str]:
    """The headline figures on the model's card, by title."""
    return {
        f"{each.dataset} · {HEADLINES[each.measure]}": each.shown
        for each in read_measures(model.card.get("figures"))
        if each.measure in HEADLINES and each.strategy is None
    }
