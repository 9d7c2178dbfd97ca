"""Measures of a model on one data set: the same code for a look during training and for a whole benchmark.

I = images, S = sentences, C = classes, D = embedding width
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, SupportsFloat, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from multimodal.datasets import Sample, open_source
from multimodal.datasets.sample import check_templates
from multimodal.evaluation.captioning import bleu4, cider, distinct_captions
from multimodal.evaluation.classification import ZeroShot, expected_calibration_error, top_k_accuracy
from multimodal.evaluation.report import Measure, Report
from multimodal.evaluation.retrieval import image_text_recall
from multimodal.results import Rejected

TASKS = ("classify", "search", "caption")
CHUNK = 192  # images handed to the model at a time; from 200 on the tasks show a bar of their own
Item = TypeVar("Item")
Out = TypeVar("Out")


class Captioned(Protocol):
    @property
    def text(self) -> str: ...


class EvaluatedModel(Protocol):
    """What a model must have to be measured; `multimodal.Model` has it."""

    @property
    def can(self) -> Collection[str]:
        """Which of "classify", "search" and "caption"; the others are left out."""

    @property
    def logit_scale(self) -> SupportsFloat:
        """In log space: exp() of it times a cosine is a logit."""

    def embed_images(self, images: list[Any]) -> Tensor: ...  # [I, D] unit length

    def embed_texts(self, texts: list[str]) -> Tensor: ...  # [S, D] unit length

    def class_embeddings(
        self, class_names: list[str], templates: list[str] | None
    ) -> Tensor: ...  # [C, D] unit length

    def caption(self, images: list[Any], num_beams: int) -> Sequence[Captioned]: ...


@dataclass(frozen=True)
class ValidationConfig:
    """One data set to measure on: one `[[validation]]` table of a run file."""

    name: str  # the first part of the figures' names
    path: str  # anything that `open_source` reads
    tasks: tuple[str, ...] = ("search", "caption")
    templates: tuple[str, ...] | None = None  # around class names; None: the model's own
    limit: int | None = None  # at most so many images, evenly spaced

    def __post_init__(self) -> None:
        if not self.tasks or not set(self.tasks) <= set(TASKS):
            raise ValueError(
                f"tasks of {self.name}: expected some of {', '.join(TASKS)}, got {list(self.tasks)}"
            )
        if self.templates is not None:
            check_templates(self.templates)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit of {self.name}: expected at least 1, got {self.limit}")


class ValidationSet:
    """One data set, opened: its samples, and what a model makes of them.

    All classes of the set take part whatever the limit; search among fewer images, and CIDEr over fewer, give
    other figures, so that only those of equal limits compare.
    """

    def __init__(self, config: ValidationConfig, root: str | Path = ".") -> None:
        templates = ("{}",) if set(config.tasks) == {"classify"} else None  # captions are not looked at
        whole = open_source(Path(root) / config.path, templates)
        self.config = config
        self.rejected = tuple(Rejected(f"{config.name}/{item.name}", item.reason) for item in whole.rejected)
        self.class_names = sorted({entry.label for entry in whole.entries if entry.label is not None})
        self.source = whole if config.limit is None else whole.thin(config.limit)
        if "classify" in config.tasks and len(self.class_names) < 2:
            raise ValueError(f"{config.name}: expected at least 2 classes, got {self.class_names}")

    def measure(self, model: EvaluatedModel, beams: Sequence[int] = (1,)) -> Report:
        """All figures of the tasks that the set is for and the model can do."""
        tasks = set(self.config.tasks) & set(model.can)
        rows: list[Measure] = []
        zero_shot: dict[str, ZeroShot] = {}
        if tasks & {"classify", "search"}:
            images = self.embed_images(model)
            if "classify" in tasks:
                found = zero_shot[self.config.name] = self.zero_shot(model, images)
                rows += self._classification(found)
            if "search" in tasks:
                rows += self._retrieval(model, images)
        if "caption" in tasks:
            for num_beams in beams:
                rows += self._captioning(self.captions(model, num_beams), num_beams)
        return Report(tuple(rows), self.rejected, zero_shot)

    def embed_images(self, model: EvaluatedModel) -> Tensor:
        """[I, D] unit length, in the order of `source`"""
        return torch.cat(self._for_images("images", model.embed_images))

    def zero_shot(self, model: EvaluatedModel, images: Tensor) -> ZeroShot:
        """Probabilities of all classes for the images with a label. images: [I, D], all of the set"""
        templates = None if self.config.templates is None else list(self.config.templates)
        classes = model.class_embeddings(self.class_names, templates)  # [C, D]
        number = {name: i for i, name in enumerate(self.class_names)}
        labelled = [i for i, entry in enumerate(self.source.entries) if entry.label is not None]
        labels = [number[str(self.source.entries[i].label)] for i in labelled]
        scale = torch.tensor(float(model.logit_scale)).exp()
        logits = scale * images[labelled].float() @ classes.float().T  # [I, D] @ [D, C] -> [I, C]
        return ZeroShot(logits.softmax(-1), torch.tensor(labels, dtype=torch.int64), self.class_names)

    def captions(self, model: EvaluatedModel, num_beams: int = 1) -> list[str]:
        """One sentence for each image, in the order of `source`."""
        if num_beams < 1:
            raise ValueError(f"num_beams: expected at least 1, got {num_beams}")
        chunks = self._for_images(
            f"captions, {num_beams} beams" if num_beams > 1 else "captions",
            lambda images: [caption.text for caption in model.caption(images, num_beams=num_beams)],
        )
        return [text for chunk in chunks for text in chunk]

    def _classification(self, found: ZeroShot) -> list[Measure]:
        probabilities, labels, _ = found
        return self._rows(
            len(labels),
            {
                "zero_shot_top1": top_k_accuracy(probabilities, labels, 1),
                "zero_shot_top5": top_k_accuracy(probabilities, labels, 5),
                "ECE": expected_calibration_error(probabilities, labels),
            },
        )

    def _retrieval(self, model: EvaluatedModel, images: Tensor) -> list[Measure]:
        texts = [(i, text) for i, entry in enumerate(self.source.entries) for text in entry.captions]
        unique = {text: row for row, text in enumerate(dict.fromkeys(text for _, text in texts))}
        # All at once: a model that cuts long ones says so once.
        [embedded] = self._in_chunks("sentences", list(unique), model.embed_texts, len(unique))
        embeddings = embedded[[unique[text] for _, text in texts]]  # equal sentences, equal rows
        found = image_text_recall(images.float(), embeddings.float(), torch.tensor([i for i, _ in texts]))
        by_text = {name: value for name, value in found.items() if name.startswith("text")}
        by_image = {name: value for name, value in found.items() if name not in by_text}
        return self._rows(len(texts), by_text) + self._rows(len(images), by_image)

    def _captioning(self, captions: list[str], num_beams: int) -> list[Measure]:
        references = [entry.captions for entry in self.source.entries]
        suffix = f"_beam{num_beams}" if num_beams > 1 else ""
        found = {
            "CIDEr": cider(captions, references),
            "BLEU-4": bleu4(captions, references),
            "distinct_captions": distinct_captions(captions),
        }
        return self._rows(len(captions), {name + suffix: value for name, value in found.items()})

    def _rows(self, n: int, found: dict[str, float]) -> list[Measure]:
        return [Measure(self.config.name, name, value, n) for name, value in found.items()]

    def _for_images(self, what: str, work: Callable[[list[Any]], Out]) -> list[Out]:
        def of_chunk(numbers: list[int]) -> Out:
            samples: list[Sample] = [self.source[i] for i in numbers]
            try:
                return work([sample.image for sample in samples])
            except ValueError as error:
                names = f"{samples[0].name} to {samples[-1].name}"
                raise ValueError(f"{self.config.name}, samples {names}: {error}") from error

        return self._in_chunks(what, list(range(len(self.source))), of_chunk)

    def _in_chunks(
        self, what: str, items: list[Item], work: Callable[[list[Item]], Out], size: int = CHUNK
    ) -> list[Out]:
        """`work` on some items at a time, with a progress bar where there is a terminal."""
        done = []
        with tqdm(total=len(items), desc=f"{self.config.name}: {what}", leave=False, disable=None) as bar:
            for start in range(0, len(items), size):
                chunk = items[start : start + size]
                done.append(work(chunk))
                bar.update(len(chunk))
        return done


class Validation:
    """Several data sets, opened once: called with a model it gives its figures by `set/measure`.

    `training` is handed one of these. Raises what `open_source` raises, before anything has been trained.
    """

    def __init__(self, configs: Sequence[ValidationConfig], root: str | Path = ".") -> None:
        names = [config.name for config in configs]
        if len(set(names)) < len(names):
            raise ValueError(f"validation: expected a name of its own for each set, got {names}")
        self.sets = [ValidationSet(config, root) for config in configs]

    def __call__(self, model: EvaluatedModel) -> dict[str, float]:
        return self.report(model).flat()

    def report(self, model: EvaluatedModel, beams: Sequence[int] = (1,)) -> Report:
        """beams: a captioning run for each number of beams; 1 is greedy"""
        with torch.no_grad():
            return sum((each.measure(model, beams) for each in self.sets), Report())
