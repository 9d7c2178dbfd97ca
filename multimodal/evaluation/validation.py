"""Measures of a model on data sets: the validation sets of a run file, and the standard sets of the benchmark.

I = images, S = sentences, C = classes, D = embedding width
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from multimodal.config import from_dict
from multimodal.datasets import open_source
from multimodal.datasets.sample import Entry, check_templates
from multimodal.evaluation.report import Report
from multimodal.files import local_path
from multimodal.generation import Greedy, Strategy, describe
from multimodal.metrics import TASKS, CaptionPredictions, ClassificationPredictions, compute_metrics, image_text_ranks
from multimodal.model import Model
from multimodal.preprocess import InputError, Preprocessor
from multimodal.results import Rejected
from multimodal.tasks.task_model import main_modality

Suffixes = Mapping[str, tuple[str, ...]]
DEFAULT = (Greedy(),)
CHUNK = 192  # images passed to the model at a time; from 200 on the tasks show a progress bar of their own
Out = TypeVar("Out")


@dataclass(frozen=True)
class ValidationConfig:
    """One data set to measure on: one `[[validation]]` table of a run file."""

    name: str  # of the data set in the measures
    path: str  # anything that `open_source` reads
    tasks: tuple[str, ...] = ("search", "caption")
    templates: tuple[str, ...] | None = None  # around class names; defaults to the model's
    limit: int | None = None  # at most this many images, evenly spaced
    kind: str | None = None  # of the data source; None: recognised from what is at `path`
    image_key: str | None = None  # this and the next two: see `SourceOptions`
    caption_key: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if not self.tasks or not set(self.tasks) <= set(TASKS):
            raise ValueError(f"tasks of {self.name}: expected some of {', '.join(TASKS)}, got {list(self.tasks)}")
        if self.templates is not None:
            check_templates(self.templates)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit of {self.name}: expected at least 1, got {self.limit}")


class ValidationSet:
    """One open data set: its samples, and the predictions of a model for them.

    Unreadable samples move to `rejected` when they are found, and do not count. All classes of the set take part
    whatever the limit. Search and CIDEr depend on the number of images: compare figures with equal limits only.
    """

    def __init__(self, config: ValidationConfig, root: str | Path = ".", suffixes: Suffixes | None = None) -> None:
        templates = ("{}",) if set(config.tasks) == {"classify"} else None  # captions are not needed
        keys = {key: getattr(config, key) for key in ("image_key", "caption_key", "split")}
        complete = open_source(Path(root, local_path(config.path)), templates, suffixes, config.kind, **keys)
        self.config = config
        self.rejected = [Rejected(f"{config.name}/{item.name}", item.reason) for item in complete.rejected]
        self.class_names = sorted({entry.label for entry in complete.entries if entry.label is not None})
        self.source = complete.thin(config.limit)
        if "classify" in config.tasks and len(self.class_names) < 2:
            raise ValueError(f"{config.name}: expected at least 2 classes, got {self.class_names}")

    def measure(self, model: Model, strategies: Sequence[Strategy] = DEFAULT) -> Report:
        """All registered metrics of the tasks that both the set and the model support, on the readable samples."""
        name, tasks = self.config.name, set(self.config.tasks) & set(model.can)
        report = Report()
        if tasks & {"classify", "search"}:
            images = self.embed_inputs(model)
        if "classify" in tasks and any(entry.label is not None for entry in self.source.entries):
            classes = self.zero_shot(model, images)
            report += Report(compute_metrics(name, "classify", classes), zero_shot={name: classes})
        if "search" in tasks and len(images):
            ranks = image_text_ranks(images.float(), *self.embed_captions(model))
            report += Report(compute_metrics(name, "search", ranks, modality=main_modality(model)))
        for strategy in strategies if "caption" in tasks else ():
            captions = self.captions(model, strategy)
            predictions = CaptionPredictions(captions, [entry.captions for entry in self.source.entries])
            decoded = None if strategy in DEFAULT else describe(strategy)
            report += Report(compute_metrics(name, "caption", predictions, decoded) if captions else ())
        return report + Report(rejected=tuple(dict.fromkeys(self.rejected)))

    def embed_inputs(self, model: Model) -> Tensor:
        """[I, D] unit length, in the order of `source`"""
        return torch.cat([torch.empty(0), *self._by_chunk(model, "embedding", model.embed)])

    def zero_shot(self, model: Model, images: Tensor) -> ClassificationPredictions:
        """Probabilities of all classes for the images with a label. images: [I, D], the complete set"""
        classes = model.class_embeddings(self.class_names, self.config.templates)  # [C, D]
        number = {name: i for i, name in enumerate(self.class_names)}
        labelled = [i for i, entry in enumerate(self.source.entries) if entry.label is not None]
        labels = torch.tensor([number[str(self.source.entries[i].label)] for i in labelled])
        scale = torch.tensor(model.logit_scale).exp()
        logits = scale * images[labelled].float() @ classes.float().T  # [I, D] @ [D, C] -> [I, C]
        return ClassificationPredictions(logits.softmax(-1), labels.long(), self.class_names)

    def embed_captions(self, model: Model) -> tuple[Tensor, Tensor]:
        """[S, D] unit length, and the image of each sentence, [S] int64"""
        texts = [(i, text) for i, entry in enumerate(self.source.entries) for text in entry.captions]
        unique = {text: row for row, text in enumerate(dict.fromkeys(text for _, text in texts))}
        # Each once, and all at the same time: a model that truncates long texts warns once.
        embeddings = model.embed_texts(list(unique))[[unique[text] for _, text in texts]]
        return embeddings.float(), torch.tensor([i for i, _ in texts])

    def captions(self, model: Model, strategy: Strategy) -> list[str]:
        """One sentence per image, in the order of `source`."""
        chunks = self._by_chunk(model, f"captions, {describe(strategy)}", partial(model.caption, strategy=strategy))
        return [caption.text for chunk in chunks for caption in chunk]

    def _by_chunk(self, model: Model, what: str, work: Callable[[list[Any]], Out]) -> Iterator[Out]:
        """`work` on the inputs of `CHUNK` samples at a time, with a progress bar on a terminal.

        Samples that cannot be read move from `source` to `rejected`.
        """
        modality, entries, start = main_modality(model), self.source.entries, 0
        with tqdm(total=len(entries), desc=f"{self.config.name}: {what}", leave=False, disable=None) as bar:
            while chunk := entries[start : start + CHUNK]:
                try:
                    found = work([entry.read(modality) for entry in chunk])
                except (OSError, ValueError) as error:
                    readable = [entry for entry in chunk if self._can_read(entry, model.inputs[modality])]
                    if len(readable) == len(chunk):  # the inputs are not the reason
                        names = f"{chunk[0].name} to {chunk[-1].name}"
                        raise ValueError(f"{self.config.name}, samples {names}: {error}") from error
                    entries[start : start + CHUNK] = readable
                    continue
                yield found
                bar.update(len(chunk))
                start += len(chunk)

    def _can_read(self, entry: Entry, preprocessor: Preprocessor) -> bool:
        """Whether a sample can be read; if not, it is rejected."""
        try:
            preprocessor.read(entry.read(preprocessor.modality))
        except (OSError, InputError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            self.rejected.append(Rejected(f"{self.config.name}/{entry.name}", reason))
            return False
        return True


class Validation:
    """Several data sets, opened once; calling it with a model gives a `Report`.

    `train` takes it as `evaluate`. Raises what `open_source` raises, before training starts.
    """

    def __init__(
        self, configs: Sequence[ValidationConfig], root: str | Path = ".", suffixes: Suffixes | None = None
    ) -> None:
        """suffixes: of the files of each modality, see `open_source`; by default of images"""
        names = [config.name for config in configs]
        if len(set(names)) < len(names):
            raise ValueError(f"validation: expected a unique name for each set, got {names}")
        self.sets = [ValidationSet(config, root, suffixes) for config in configs]

    def __call__(self, model: Model, strategies: Sequence[Strategy] = DEFAULT) -> Report:
        """strategies: images are captioned once with each"""
        with torch.no_grad():
            return sum((each.measure(model, strategies) for each in self.sets), Report())


# The standard validation sets, in the same tables as in a run file
_TABLES = tomllib.loads(Path(__file__).with_name("benchmark.toml").read_text(encoding="utf-8"))["validation"]
BENCHMARK = tuple(from_dict(ValidationConfig, table, "validation") for table in _TABLES)


def evaluate_model(
    model: Model, root: str | Path, limit: int | None = None, strategies: Sequence[Strategy] = DEFAULT
) -> Report:
    """Measure `model` on each set of `BENCHMARK` that exists under `root`.

    limit: at most this many images per set, evenly spaced; compare figures with equal limits only.
    strategies: images are captioned once with each. Tasks that the model does not support are skipped.
    Raises FileNotFoundError if no set exists.
    """
    existing = [config for config in BENCHMARK if Path(root, config.path).exists()]
    if not existing:
        known = ", ".join(config.path for config in BENCHMARK)
        raise FileNotFoundError(f"benchmark: expected one of {known} in {root}, got none")
    useful = [replace(config, limit=limit) for config in existing if set(config.tasks) & set(model.can)]
    return Validation(useful, root)(model, strategies)
