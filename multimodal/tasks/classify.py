"""Zero-shot classification: the class whose name best describes the input (Radford et al. 2021, section 3.1).

N = inputs, C = classes, D = dimensions
"""

import hashlib
import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from itertools import chain, islice, product
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.config import check_at_least
from multimodal.results import Classification, Item, Results
from multimodal.tasks.batches import Many, progress_bar, results_of, sources_of, warn
from multimodal.tasks.embed import embed_texts
from multimodal.tasks.task_model import TaskModel, embedder, main_modality, require

ClassNames = Iterable[str] | Mapping[str, Iterable[str]] | Mapping[int, str]
Words = tuple[tuple[str, ...], ...]  # of each class
Template = str | Callable[[str], str]
Templates = Template | Iterable[Template] | None

DEFAULT_TEMPLATES = (
    "a photo of a {}.", "a photo of the {}.", "a picture of a {}.", "a close-up photo of a {}.",
    "a good photo of a {}.", "there is a {} in the scene.", "{}",
)  # fmt: skip
MAX_CACHED_CLASS_SETS = 16  # per model
MAX_TEXTS_AT_ONCE = 1 << 12


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
    class_names: a list or anything else in one order, such as an array or the keys of a dict; or `{name: [synonyms]}`,
        where a class is the mean of its name and its synonyms; or `{id: name}`, in the order of the ids. A name may
        occur twice, as two classes, with one warning.
    templates: format strings with one `{}` each or functions of the name, or a single one; a class is averaged over
        them too. Defaults to seven general ones; "imagenet" stands for the 80 of CLIP in open_clip's version.
    top_k: keep only the k best scores, which stay probabilities among all classes. By default all are kept.
    batch_size: images per forward pass; by default 32 on a CPU, 256 elsewhere.

    Returns a `Classification` (`.label`, `.index`, `.score`, `.scores`, `.image`), or `Results` of them. The class
    embeddings are cached for the next call. Raises ValueError for no classes, for a set, for a class that is empty or
    not a str, for a format string without exactly one `{}`, and for outputs that are not finite, with the image.

    >>> model.classify("cat.jpg", ["cat", "dog"])  # doctest: +SKIP
    >>> model.classify("photos/", {"dog": ["puppy"], "cat": ["kitten"]}, templates=["a photo of a {}"])
    ... # doctest: +SKIP
    """
    require(model, "classify")
    network, modality = embedder(model), main_modality(model)
    words, patterns = checked_names(class_names), checked_templates(templates)
    names = [name for name, *_ in words]
    numbers = {name: i for i, name in reversed([*enumerate(names)])}
    for i in range(len(names)):
        while numbers.setdefault(names[i], i) != i:  # a name that occurred before
            names[i] += f" #{i}"
    if top_k is not None:
        check_at_least(1, top_k=top_k)
    sources = sources_of(model, modality, images)
    classes = _class_embeddings(model, words, patterns).double()  # [C, D]
    scale = math.exp(model.logit_scale)

    def classify_batch(batch: Tensor, _: list[int], items: list[Item]) -> Iterator[Classification]:
        embeddings = network.encode(modality, batch, normalize=True).cpu().double()  # [B, D]
        probabilities = (scale * embeddings @ classes.T).softmax(-1)  # [B, D] x [D, C] -> [B, C]
        best = probabilities.argsort(dim=-1, descending=True, stable=True)[:, :top_k]  # [B, K]
        values, order = probabilities.gather(1, best).numpy(), best.int().numpy()
        for item, row, score in zip(items, order, values, strict=True):
            index = int(row[0])
            yield Classification(words[index][0], float(score[0]), Scores(names, numbers, row, score), item, index)

    return results_of(model, modality, sources, classify_batch, batch_size, "classifying")


class Scores(Mapping[str, float]):
    """Probabilities by class, best first, in arrays: 250 kB for 21,000 classes, where a dict takes 1 MB.

    names [C], numbers: each class and its position, shared by all results of a call.
    order [K], values [K]: the positions of the K best and their probabilities.
    """

    def __init__(self, names: Sequence[str], numbers: dict[str, int], order: np.ndarray, values: np.ndarray) -> None:
        self._names, self._numbers, self._order, self._values = names, numbers, order, values

    def __getitem__(self, name: str) -> float:
        found = (self._order == self._numbers[name]).nonzero()[0]
        if not len(found):
            raise KeyError(name)
        return float(self._values[found[0]])

    def __iter__(self) -> Iterator[str]:
        return map(self._names.__getitem__, self._order.tolist())

    def __len__(self) -> int:
        return len(self._order)

    def items(self) -> ItemsView[str, float]:
        return dict(zip(self, self._values.tolist(), strict=True)).items()

    def values(self) -> ValuesView[float]:
        return dict(self.items()).values()

    def __repr__(self) -> str:
        return repr(dict(self.items()))


def class_embeddings(model: TaskModel, class_names: ClassNames, templates: Templates = None) -> Tensor:
    """One unit vector per class, float32 [C, D] on the CPU; arguments and errors as in `classify`."""
    return _class_embeddings(model, checked_names(class_names), checked_templates(templates))


def _class_embeddings(model: TaskModel, words: Words, patterns: Sequence[Template]) -> Tensor:
    """The mean over words and templates, normalised to unit length again; from the cache where it is known."""
    weights = model.weights_key()
    key = (words, tuple(each if isinstance(each, str) else _texts_key(words, each) for each in patterns), weights)
    embeddings = model.class_cache.pop(key, None)
    if embeddings is None:
        texts = ((i, filled(*pair)) for i, synonyms in enumerate(words) for pair in product(patterns, synonyms))
        sums = torch.zeros(len(words), model.embed_dim)  # [C, D]
        with progress_bar(len(patterns) * sum(map(len, words)), "embedding class names", "texts") as progress:
            while part := list(islice(texts, MAX_TEXTS_AT_ONCE)):
                numbers, chunk = zip(*part, strict=True)
                sums.index_add_(0, torch.tensor(numbers), embed_texts(model, chunk))
                progress.update(len(part))
        embeddings = F.normalize(sums, dim=-1)
    if weights is not None:
        model.class_cache[key] = embeddings  # the latest last
    for old in list(model.class_cache)[:-MAX_CACHED_CLASS_SETS]:
        model.class_cache.pop(old, None)
    return embeddings.clone()


def filled(template: Template, word: str) -> str:
    """The text that a template, a format string or a function, makes of a word."""
    text = template.replace("{}", word) if isinstance(template, str) else template(word)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"templates: expected functions that return a text, got {text!r} for {word!r}")
    return text


def _texts_key(words: Words, template: Template) -> str:
    """What a function makes of all words, hashed: its name would not tell, nor would the function itself."""
    texts = "\0".join(filled(template, word) for synonyms in words for word in synonyms)
    return hashlib.sha256(texts.encode(errors="surrogatepass")).hexdigest()


def checked_names(class_names: ClassNames) -> Words:
    """The words of each class: its name first, then its synonyms. Warns of repeated names. Raises ValueError."""
    if isinstance(class_names, Mapping) and not all(isinstance(name, str) for name in class_names.values()):
        classes = [[key, *listed(f"class_names[{key!r}]", words)] for key, words in class_names.items()]
    elif isinstance(class_names, Mapping):  # id2label of a config
        by_id = {int(key): name for key, name in class_names.items() if re.fullmatch(r"\d+", str(key))}
        if len(by_id) < len(class_names):
            got = reprlib.repr(class_names)
            raise ValueError(f"class_names: expected {{id: name}} or {{name: [synonyms]}}, got {got}")
        classes = [[name] for _, name in sorted(by_id.items())]
    else:
        classes = [[name] for name in listed("class_names", class_names)]
    if not classes:
        raise ValueError("class_names: expected at least one class, got none")
    for word in chain.from_iterable(classes):
        if not isinstance(word, str) or not word.strip():
            raise ValueError(f"class_names: expected non-empty strings, got {word!r}")
    repeated = [name for name, count in Counter(words[0] for words in classes).items() if count > 1]
    if repeated:
        shown = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
        warn(f"class_names: {len(repeated)} occur more than once, as classes of their own (see `.index`): {shown}")
    return tuple(tuple(dict.fromkeys(map(str.__str__, words))) for words in classes)


def listed(name: str, values: Any) -> list[Any]:
    """The values of anything that has them in one order. Raises ValueError for a str, a set, a table and the like."""
    scalar = isinstance(values, str | bytes | set | frozenset | Mapping) or not isinstance(values, Iterable)
    if scalar or getattr(values, "ndim", 1) != 1:
        got = reprlib.repr(values)
        raise ValueError(f"{name}: expected a list of strings or another ordered collection, got {got}")
    return list(values)


def checked_templates(templates: Templates) -> tuple[Template, ...]:
    """The format strings and functions that `templates` means, see `classify`. Raises ValueError."""
    if templates is None:
        return DEFAULT_TEMPLATES
    patterns: list[Template] = []
    for each in [templates] if isinstance(templates, str) or callable(templates) else listed("templates", templates):
        if isinstance(each, str) and each == "imagenet":
            from open_clip import OPENAI_IMAGENET_TEMPLATES

            patterns += [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
        elif callable(each) or (isinstance(each, str) and each.count("{}") == 1):
            patterns.append(each)
        else:
            raise ValueError(f"templates: expected 'imagenet', functions or strings with one '{{}}', got {each!r}")
    if not patterns:
        raise ValueError("templates: expected at least one, got none")
    return tuple(patterns)
