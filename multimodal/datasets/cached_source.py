"""One source of a mixture: its table in a run file, and its inputs and captions in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from multimodal.datasets.cache import TensorCache
from multimodal.datasets.sample import Source, check_templates, label_captions
from multimodal.preprocess import Augment


@dataclass(frozen=True)
class DataConfig:
    """One source of a mixture: one `[[data]]` table of a run file."""

    path: str  # whatever `open_source` reads: shards, a pattern of them, a table, or a folder
    kind: str | None = None  # of the data source; None: recognised by its contents
    image_key: str | None = None  # this and the next two: see `SourceOptions`
    caption_key: str | None = None
    split: str | None = None
    weight: float = 1.0  # its share of each batch, relative to the other sources
    captioning: bool = True  # the decoder learns its captions; templates only if all captions are such
    templates: list[str] | None = None  # captions from the label, such as "a photo of a {}."
    # {"dog": ["poodle", ...]}: a broader term that takes the place of these labels in some templates
    hypernyms: dict[str, list[str]] = field(default_factory=dict)
    label_probability: float = 0.0  # that a template replaces a caption of a sample with both
    limit: int | None = None  # the maximum number of samples, evenly spaced
    scale: float = 0.5  # this and the rest: see `preprocess.Augment`
    flip: bool = True
    rotate: bool = False
    color: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name, valid, expected in (
            ("weight", 0 < self.weight < float("inf"), "a number above 0"),
            ("label_probability", 0 <= self.label_probability <= 1, "0 to 1"),
            ("limit", self.limit is None or self.limit >= 1, "at least 1"),
        ):
            if not valid:
                raise ValueError(f"{name} of {self.path}: expected {expected}, got {getattr(self, name)}")
        if self.templates is not None:
            check_templates(self.templates)
        for term, labels in self.hypernyms.items():
            strings = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
            if not strings or not labels:
                raise ValueError(f"hypernyms.{term} of {self.path}: expected a list of labels, got {labels!r}")
        if (self.label_probability > 0 or self.hypernyms) and not self.templates:
            raise ValueError(f"templates of {self.path}: label_probability and hypernyms need some, got none")
        try:
            _ = self.augment
        except ValueError as error:
            raise ValueError(f"augmentation of {self.path}: {error}") from None

    @property
    def augment(self) -> Augment:
        return Augment(scale=self.scale, flip=self.flip, rotate=self.rotate, color=self.color, erase=self.erase)


class BatchRow(NamedTuple):
    """One row of a batch, as numbers."""

    source: int
    sample: int  # index into its source
    text: int  # index into the mixture's texts
    label_only: bool  # the text describes the label and not the sample
    captioning: bool  # the decoder learns from it


class CachedSource:
    """One source in memory: inputs by modality, captions as indices into the mixture's texts."""

    def __init__(
        self,
        config: DataConfig,
        source: Source,
        inputs: Mapping[str, TensorCache],
        text_ids: dict[str, int],  # extended by the new texts
    ) -> None:
        def number(text: str) -> int:
            return text_ids.setdefault(text, len(text_ids))

        self.config, self.inputs = config, inputs
        self.summary = f"{config.path}: {source.summary()}"
        self.names = [f"{config.path}/{entry.name}" for entry in source.entries]
        self.labels = [entry.label for entry in source.entries]
        self.captions = np.array([number(text) for entry in source.entries for text in entry.captions])
        self.first = np.cumsum([0, *(len(entry.captions) for entry in source.entries)])  # [N + 1] into captions
        captions_by_label: dict[str, set[tuple[str, ...]]] = {}
        for entry in source.entries:
            if entry.label is not None:
                captions_by_label.setdefault(entry.label, set()).add(entry.captions)
        used = {label for labels in config.hypernyms.values() for label in labels}
        unknown = sorted(used - set(captions_by_label))
        if unknown:
            raise ValueError(f"hypernyms of {config.path}: expected labels of its samples, got {unknown}")
        self.templated: dict[str, list[int]] = {}  # the label itself in each template, then its hypernyms
        self.label_only: dict[str, bool] = {}  # whether the captions of its samples describe the label alone
        for label, (captions, *others) in captions_by_label.items():
            names = [label, *(term for term, labels in config.hypernyms.items() if label in labels)]
            texts = [text for name in names for text in label_captions(name, config.templates or ())]
            self.templated[label] = [number(text) for text in texts]
            self.label_only[label] = not others and all(label.casefold() in text.casefold() for text in captions)

    def draw(self, source: int, index: int, pick: float, label_draw: float) -> BatchRow:
        """The row of sample `index` for draws in [0, 1): one of its captions, or of the templates."""
        label = self.labels[index]
        templated = [] if label is None else self.templated[label]
        label_only = label is not None and self.label_only[label]
        if templated and label_draw < self.config.label_probability:
            place = int(pick * len(templated))
            exact = place < len(self.config.templates or ())
            return BatchRow(source, index, templated[place], exact, self.config.captioning and label_only)
        texts = self.captions[self.first[index] : self.first[index + 1]]
        return BatchRow(source, index, int(texts[int(pick * len(texts))]), label_only, self.config.captioning)
