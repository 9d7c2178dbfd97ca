"""One source of a mixture: what a run file says of it, and its pictures and captions in memory."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from multimodal.datasets.sample import Source, check_templates, label_captions
from multimodal.preprocess import Augment


@dataclass(frozen=True)
class DataConfig:
    """One source of a mixture: one `[[data]]` table of a run file."""

    path: str  # a tar, a folder of tars, a folder of class folders, a csv or a jsonl
    weight: float = 1.0  # its share of each batch, relative to the other sources
    captioning: bool = True  # the decoder learns its captions; templates too where those only name the label
    templates: list[str] | None = None  # captions from the label, such as "a photo of a {}."
    # {"dog": ["poodle", ...]}: a name that templates take too, beside the label itself
    wider: dict[str, list[str]] = field(default_factory=dict)
    label_rate: float = 0.0  # how often a template takes the place of a caption where a sample has both
    limit: int | None = None  # at most so many samples, evenly spaced
    scale: float = 0.5  # the rest is handed to preprocess.Augment
    flip: bool = True
    rotate: bool = False
    color: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight of {self.path}: expected a number above 0, got {self.weight}")
        if not 0 <= self.label_rate <= 1:
            raise ValueError(f"label_rate of {self.path}: expected 0 to 1, got {self.label_rate}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit of {self.path}: expected at least 1, got {self.limit}")
        if self.templates is not None:
            check_templates(self.templates)
        for term, labels in self.wider.items():
            if (
                not isinstance(labels, list)
                or not labels
                or not all(isinstance(label, str) for label in labels)
            ):
                raise ValueError(f"wider.{term} of {self.path}: expected a list of labels, got {labels!r}")
        if (self.label_rate > 0 or self.wider) and not self.templates:
            raise ValueError(f"label_rate or wider of {self.path}: expected templates as well, got none")
        try:
            _ = self.augment
        except ValueError as error:
            raise ValueError(f"augmentation of {self.path}: {error}") from None

    @property
    def augment(self) -> Augment:
        return Augment(
            scale=self.scale, flip=self.flip, rotate=self.rotate, color=self.color, erase=self.erase
        )


class Row(NamedTuple):
    """One row of a batch, as numbers."""

    source: int
    sample: int  # index into its source
    text: int  # index into the mixture's texts
    label_only: bool  # the text speaks of the label and not of the image
    captioning: bool  # the decoder learns from it


class Part:
    """One source in memory: images [N, 3, C, C], captions as indices into the mixture's texts."""

    def __init__(self, config: DataConfig, source: Source, images: Tensor, text_ids: dict[str, int]) -> None:
        def number(text: str) -> int:
            return text_ids.setdefault(text, len(text_ids))

        self.config, self.images, self.augment = config, images, config.augment
        self.summary = f"{config.path}: {source.summary()}"
        self.names = [f"{config.path}/{entry.name}" for entry in source.entries]
        self.sample_labels = [entry.label for entry in source.entries]
        self.captions = np.array([number(text) for entry in source.entries for text in entry.captions])
        self.first = np.cumsum(
            [0] + [len(entry.captions) for entry in source.entries]
        )  # [N + 1] into captions
        about: dict[str, set[tuple[str, ...]]] = {}
        for entry in source.entries:
            if entry.label is not None:
                about.setdefault(entry.label, set()).add(entry.captions)
        unknown = sorted({label for labels in config.wider.values() for label in labels} - set(about))
        if unknown:
            raise ValueError(f"wider of {config.path}: expected labels that are there, got {unknown}")
        # The exact name in each template, then the wider ones.
        self.templated = {
            label: np.array(
                [
                    number(text)
                    for name in (label, *(term for term, labels in config.wider.items() if label in labels))
                    for text in label_captions(name, config.templates or ())
                ],
                int,
            )
            for label in about
        }
        # All images of a label share their captions: those speak of the label and not of the image.
        self.label_only = {
            label: len(sets) == 1 and all(label.casefold() in text.casefold() for text in next(iter(sets)))
            for label, sets in about.items()
        }

    def draw(self, source: int, index: int, pick: float, label_draw: float) -> Row:
        """The row of sample `index` for draws in [0, 1): one of its captions, or of the templates."""
        label = self.sample_labels[index]
        label_only = label is not None and self.label_only[label]
        if label is not None and len(self.templated[label]) and label_draw < self.config.label_rate:
            place = int(pick * len(self.templated[label]))
            exact = place < len(self.config.templates or ())
            captioning = self.config.captioning and label_only
            return Row(source, index, int(self.templated[label][place]), exact, captioning)
        texts = self.captions[self.first[index] : self.first[index + 1]]
        return Row(source, index, int(texts[int(pick * len(texts))]), label_only, self.config.captioning)
