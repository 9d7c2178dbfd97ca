"""Zero-shot classification: the class whose name best describes the input (Radford et al. 2021, section 3.1).

N = inputs, C = classes, D = dimensions
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.config import check_at_least
from multimodal.results import Classification, Item, Results
from multimodal.tasks.batches import Many, results_of, sources_of
from multimodal.tasks.embed import embed_texts
from multimodal.tasks.task_model import TaskModel, embedder, main_modality, require

ClassNames = Sequence[str] | Mapping[str, Sequence[str]]
Templates = Sequence[str] | str | None

DEFAULT_TEMPLATES = (
    "a photo of a {}.", "a photo of the {}.", "a picture of a {}.", "a close-up photo of a {}.",
    "a good photo of a {}.", "there is a {} in the scene.", "{}",
)  # fmt: skip
MAX_CACHED_CLASS_SETS = 16  # per model
MAX_TEXTS_AT_ONCE = 1 << 14


@overload
def classify(
    model: TaskModel, images: Many, class_names: ClassNames, templates: Templates = ..., top_k: int | None = ...,
    *, batch_size: int | None = ...,
) -> Results[Classification]: ...  # fmt: skip
@overload
def classify(
    model: TaskModel, images: Any, class_names: ClassNames, templates: Templates = ..., top_k: int | None = ...,
    *, batch_size: int | None = ...,
) -> Classification | Results[Classification]: ...  # fmt: skip
def classify(
    model: TaskModel, images: Any, class_names: ClassNames, templates: Templates = None, top_k: int | None = None,
    *, batch_size: int | None = None,
) -> Classification | Results[Classification]:  # fmt: skip
    """Find which of `class_names` each image shows, without training: zero-shot.

    images: one or many, see `Model`.
    class_names: a list, or `{name: [synonyms]}`; a class is the mean of its name and its synonyms.
    templates: format strings with one `{}` each, over which a class is averaged too. Defaults to seven general ones;
        "imagenet" stands for the 80 of CLIP in open_clip's version.
    top_k: keep only the k best scores, which stay probabilities among all classes. By default all are kept.
    batch_size: images per forward pass; by default 32 on a CPU, 256 elsewhere.

    Returns a `Classification` (`.label`, `.score`, `.scores`, `.image`), or `Results` of them. The class embeddings
    are cached for the next call. Raises ValueError for an empty list of classes, a class that is repeated, empty or
    not a str, and a template without exactly one `{}`.

    >>> model.classify("cat.jpg", ["cat", "dog"])  # doctest: +SKIP
    >>> model.classify("photos/", {"dog": ["puppy"], "cat": ["kitten"]}, templates=["a photo of a {}"])
    ... # doctest: +SKIP
    """
    require(model, "classify")
    network, modality = embedder(model), main_modality(model)
    names = list(checked_names(class_names))
    if top_k is not None:
        check_at_least(1, top_k=top_k)
    sources = sources_of(model, modality, images)
    classes = class_embeddings(model, class_names, templates).double()  # [C, D]
    scale = math.exp(model.logit_scale)

    def classify_batch(batch: Tensor, _: list[int], items: list[Item]) -> Iterator[Classification]:
        embeddings = network.encode(modality, batch, normalize=True).cpu().double()  # [B, D]
        probabilities = (scale * embeddings @ classes.T).softmax(-1)  # [B, D] x [D, C] -> [B, C]
        for item, row in zip(items, probabilities, strict=True):
            order = row.argsort(descending=True, stable=True)[:top_k].tolist()  # ties: in the order given
            scores = {names[i]: row[i].item() for i in order}
            yield Classification(names[order[0]], row[order[0]].item(), scores, item)

    return results_of(model, modality, sources, classify_batch, batch_size, "classifying")


def class_embeddings(model: TaskModel, class_names: ClassNames, templates: Templates = None) -> Tensor:
    """One unit vector per class, float32 [C, D] on the CPU; arguments and errors as in `classify`."""
    words, patterns = checked_names(class_names), checked_templates(templates)
    weights = model.weights_key()
    key = (tuple(words.items()), patterns, weights)
    embeddings = model.class_cache.pop(key, None)
    if embeddings is None:
        embeddings = _embed_classes(model, list(words.values()), patterns)
    if weights is not None:
        model.class_cache[key] = embeddings  # the latest last
    for old in list(model.class_cache)[:-MAX_CACHED_CLASS_SETS]:
        model.class_cache.pop(old, None)
    return embeddings.clone()


def _embed_classes(model: TaskModel, words: list[tuple[str, ...]], patterns: tuple[str, ...]) -> Tensor:
    """The mean over words and templates, normalised to unit length again."""
    texts = [
        (number, pattern.replace("{}", word))
        for number, synonyms in enumerate(words)
        for pattern, word in product(patterns, synonyms)
    ]
    sums = torch.zeros(len(words), model.embed_dim)  # [C, D]
    for start in range(0, len(texts), MAX_TEXTS_AT_ONCE):
        numbers, part = zip(*texts[start : start + MAX_TEXTS_AT_ONCE], strict=True)
        sums.index_add_(0, torch.tensor(numbers), embed_texts(model, part))
    return F.normalize(sums, dim=-1)


def checked_names(class_names: ClassNames) -> dict[str, tuple[str, ...]]:
    """Each class with its words: its name first, then its synonyms. Raises ValueError."""
    if isinstance(class_names, str) or not isinstance(class_names, Sequence | Mapping):
        raise ValueError(f"class_names: expected a list or {{name: [synonyms]}}, got {class_names!r}")
    if not class_names:
        raise ValueError("class_names: expected at least one class, got none")
    words: dict[str, tuple[str, ...]] = {}
    for name in class_names:
        synonyms = class_names[name] if isinstance(class_names, Mapping) else ()
        if isinstance(synonyms, str) or not isinstance(synonyms, Sequence):
            raise ValueError(f"class_names[{name!r}]: expected a list of synonyms, got {synonyms!r}")
        for word in (name, *synonyms):
            if not isinstance(word, str) or not word.strip():
                raise ValueError(f"class_names: expected non-empty strings, got {word!r}")
        if name in words:
            raise ValueError(f"class_names: expected each class once, got {name!r} twice")
        words[name] = tuple(dict.fromkeys([name, *synonyms]))
    return words


def checked_templates(templates: Templates) -> tuple[str, ...]:
    """The format strings that `templates` means, see `classify`. Raises ValueError."""
    if templates is None:
        return DEFAULT_TEMPLATES
    if templates == "imagenet":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    if isinstance(templates, str) or not templates:
        raise ValueError(f"templates: expected 'imagenet' or at least one format string in a list, got {templates!r}")
    for pattern in templates:
        if not isinstance(pattern, str) or pattern.count("{}") != 1:
            raise ValueError(f"templates: expected strings with exactly one '{{}}', got {pattern!r}")
    return tuple(templates)
