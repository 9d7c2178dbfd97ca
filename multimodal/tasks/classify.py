"""Zero-shot classification: the class whose name says best what is in the picture (Radford et al. 2021, 3.1).

N images, C classes, D dimensions
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.preprocess import resolve
from multimodal.results import Classification, Results
from multimodal.tasks.batches import image_batches, pictures, warn_rejected
from multimodal.tasks.embed import embed_texts, encode_images
from multimodal.tasks.protocol import TaskModel, require

ClassNames = Sequence[str] | Mapping[str, Sequence[str]]
Templates = Sequence[str] | str | None

DEFAULT_TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "a close-up photo of a {}.",
    "a good photo of a {}.",
    "there is a {} in the scene.",
    "{}",
)
CACHED = 16  # sets of class embeddings that a model keeps
CHUNK = 1 << 14  # texts embedded at a time


def classify(
    model: TaskModel,
    images: Any,
    class_names: ClassNames,
    templates: Templates = None,
    top_k: int | None = None,
    batch_size: int | None = None,
) -> Classification | Results[Classification]:
    """The class of each image; see `Model.classify`."""
    require(model, "classify")
    names = list(checked_names(class_names))
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k must be None or a whole number of at least 1, got {top_k!r}")
    sources = resolve(images)
    classes = cached_class_embeddings(model, class_names, templates).double()  # [C, D]
    scale = math.exp(model.logit_scale)
    results: Results[Classification] = Results()
    for places, batch in image_batches(model, sources, results.rejected, batch_size, "classifying"):
        cosine = encode_images(model, batch).double() @ classes.T  # [B, D] x [D, C] -> [B, C]
        for picture, row in zip(pictures(sources, places), (scale * cosine).softmax(-1), strict=True):
            order = row.argsort(descending=True, stable=True)[:top_k].tolist()  # equal: as the names came
            scores = {names[i]: row[i].item() for i in order}
            results.append(Classification(names[order[0]], row[order[0]].item(), scores, picture))
    warn_rejected(results.rejected, len(sources.items))
    return results[0] if sources.single else results


def class_embeddings(model: TaskModel, class_names: ClassNames, templates: Templates = None) -> Tensor:
    """One vector per class, float32 [C, D]; see `Model.class_embeddings`."""
    return cached_class_embeddings(model, class_names, templates).clone()


def cached_class_embeddings(model: TaskModel, class_names: ClassNames, templates: Templates) -> Tensor:
    """The same, without the copy: not to be written to."""
    words, patterns = checked_names(class_names), checked_templates(templates)
    key = (tuple(words.items()), patterns, model.weights_version())
    embeddings = model.class_cache.pop(key, None)
    if embeddings is None:
        embeddings = _embed_classes(model, list(words.values()), patterns)
    model.class_cache[key] = embeddings  # the latest last
    for old in list(model.class_cache)[:-CACHED]:
        model.class_cache.pop(old, None)
    return embeddings


def _embed_classes(model: TaskModel, words: list[tuple[str, ...]], patterns: tuple[str, ...]) -> Tensor:
    """The mean over words and templates, of unit length again."""
    texts, owners = [], []
    for owner, synonyms in enumerate(words):
        for pattern, word in product(patterns, synonyms):
            texts.append(pattern.replace("{}", word))
            owners.append(owner)
    sums = torch.zeros(len(words), model.embed_dim)
    for start in range(0, len(texts), CHUNK):
        part = embed_texts(model, texts[start : start + CHUNK])  # [n, D]
        sums.index_add_(0, torch.tensor(owners[start : start + CHUNK]), part)
    return F.normalize(sums, dim=-1)


def checked_names(class_names: ClassNames) -> dict[str, tuple[str, ...]]:
    """Each class with its words: its name first, then its synonyms. Raises ValueError."""
    if isinstance(class_names, str) or not isinstance(class_names, Sequence | Mapping):
        raise ValueError(f"class_names: expected a list or {{name: [synonyms]}}, got {class_names!r}")
    if not class_names:
        raise ValueError("class_names: expected at least one class, got none")
    words: dict[str, tuple[str, ...]] = {}
    for name in class_names:
        _check_word(name)
        if name in words:
            raise ValueError(f"class_names: expected each class once, got {name!r} twice")
        synonyms = class_names[name] if isinstance(class_names, Mapping) else ()
        if isinstance(synonyms, str) or not isinstance(synonyms, Sequence):
            raise ValueError(f"class_names[{name!r}]: expected a list of synonyms, got {synonyms!r}")
        for synonym in synonyms:
            _check_word(synonym)
        words[name] = tuple(dict.fromkeys([name, *synonyms]))
    return words


def _check_word(word: Any) -> None:
    if not isinstance(word, str) or not word.strip():
        raise ValueError(f"class_names: expected non-empty strings, got {word!r}")


def checked_templates(templates: Templates) -> tuple[str, ...]:
    """The format strings that `templates` means. Raises ValueError."""
    if templates is None:
        return DEFAULT_TEMPLATES
    if isinstance(templates, str):
        if templates != "imagenet":
            raise ValueError(f"templates: expected a list of format strings or 'imagenet', got {templates!r}")
        return imagenet_templates()
    patterns = tuple(templates)
    if not patterns:
        raise ValueError("templates: expected at least one format string, got none")
    for pattern in patterns:
        if not isinstance(pattern, str) or pattern.count("{}") != 1:
            raise ValueError(f"templates: expected strings with exactly one '{{}}', got {pattern!r}")
    return patterns


def imagenet_templates() -> tuple[str, ...]:
    """The 80 templates that CLIP was evaluated with on ImageNet, as open_clip has them."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
