"""From the record of one sample, such as a JSON object or a row of a table, to an `Entry`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal.datasets.sample import Entry, SampleError, Stored, check_templates, label_captions
from multimodal.preprocess import IMAGE_SUFFIXES, clean_caption

MAX_RECORD_BYTES = 1_000_000  # of the JSON or text of one sample
CAPTION_KEYS = ("captions", "caption", "text")  # the first that is present counts


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source.

    templates: make captions, such as "a photo of a {}", for samples that only have a label.
    suffixes: the modalities that each sample must have, with the file suffixes of each, lower case with the
        dot; empty for texts alone.
    """

    templates: Sequence[str] | None = None
    suffixes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"image": IMAGE_SUFFIXES})

    def __post_init__(self) -> None:
        if self.templates is not None:
            check_templates(self.templates)

    def modality_of(self, suffix: str) -> str | None:
        """The modality of files with this suffix; None if it belongs to no wanted modality."""
        suffix = suffix.lower()
        return next((name for name, suffixes in self.suffixes.items() if suffix in suffixes), None)


def parse_record(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises SampleError for anything else."""
    try:
        record = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SampleError(f"its json cannot be read: {error}") from None
    if not isinstance(record, dict):
        raise SampleError(f"its json must be an object, got {type(record).__name__}")
    return record


def make_entry(
    name: str, inputs: Mapping[str, Path | Stored], record: Mapping[str, Any], options: SourceOptions
) -> Entry:
    """An entry with the captions and label of a record; the templates make captions for a label without any.

    Raises SampleError if it lacks captions or one of the wanted modalities.
    """
    for modality in options.suffixes:
        if modality not in inputs:
            raise SampleError(f"it has no {modality}")
    captions, label = captions_of(record), label_of(record)
    if not captions and label is not None:
        captions = label_captions(label, options.templates or ())
    if not captions:
        hint = " and no templates were given for its label" if label is not None else ""
        raise SampleError(f"it has no captions{hint}")
    return Entry(name, dict(inputs), captions, label)


def captions_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The cleaned strings under `captions`, `caption` or `text` (a string or a list), without empty ones."""
    key = next((key for key in CAPTION_KEYS if record.get(key) is not None), "")
    value = record.get(key, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise SampleError(f"{key} must be a string or a list of strings")
    return tuple(text for text in map(_clean, texts) if text)


def label_of(record: Mapping[str, Any]) -> str | None:
    """The cleaned string (or integer) under `label`, if there is one."""
    label = record.get("label")
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise SampleError(f"label must be a string, got {type(label).__name__}")
    return _clean(str(label)) or None


def _clean(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SampleError("its text is not valid Unicode") from None
    return clean_caption(text)
