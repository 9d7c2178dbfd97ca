"""What every data source gives: samples, read one at a time, and the list of what could not be used."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

from multimodal.preprocess import clean_caption
from multimodal.results import Rejected

MAX_RECORD_BYTES = 1_000_000  # of one sample's JSON or text


class Sample(NamedTuple):
    """One image with the sentences about it."""

    name: str
    image: bytes | Path  # an encoded picture, or where one lies
    captions: tuple[str, ...]  # at least one
    label: str | None


class Stored(Protocol):
    """Bytes that are read when they are needed."""

    def read(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample whose image has not been read yet."""

    name: str
    image: Path | Stored
    captions: tuple[str, ...]
    label: str | None


class SampleError(ValueError):
    """Why a sample cannot be used, in a few words."""


class Source(Sequence[Sample]):
    """A sequence of samples whose images are read on demand, and `rejected`: what was left out, and why."""

    def __init__(self, path: str | Path, entries: Iterable[Entry], rejected: Iterable[Rejected]) -> None:
        self.path = Path(path)
        self.entries = list(entries)
        self.rejected = list(rejected)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Source": ...
    def __getitem__(self, index: int | slice) -> "Sample | Source":
        """The sample at `index`, its image read now (OSError if it vanished), or a part of the source."""
        if isinstance(index, slice):
            return Source(self.path, self.entries[index], self.rejected)
        entry = self.entries[index]
        image = entry.image if isinstance(entry.image, Path) else entry.image.read()
        return Sample(entry.name, image, entry.captions, entry.label)

    def thin(self, limit: int) -> "Source":
        """At most `limit` samples, evenly spaced, so that a source sorted by class keeps every class."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        count = len(self)
        if count <= limit:
            return self
        return Source(self.path, [self.entries[i * count // limit] for i in range(limit)], self.rejected)

    def reject(self, reasons: dict[int, str]) -> None:
        """Move the samples at these indices to `rejected`."""
        self.rejected += [Rejected(self.entries[i].name, reason) for i, reason in sorted(reasons.items())]
        self.entries = [entry for i, entry in enumerate(self.entries) if i not in reasons]

    def summary(self) -> str:
        """One line: how many samples, how many rejected, the first three of those."""
        line = f"{len(self)} samples, {len(self.rejected)} rejected"
        if not self.rejected:
            return line
        shown = "; ".join(str(item) for item in self.rejected[:3])
        return f"{line} ({shown}{'; ...' if len(self.rejected) > 3 else ''})"

    def __repr__(self) -> str:
        return f"Source({str(self.path)!r}: {self.summary()})"


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Templates as a tuple; each must have one `{}` for the label."""
    if isinstance(templates, str):
        raise ValueError(f"templates: expected a list of strings with a {{}} in each, got {templates!r}")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(f"template: expected a string with one {{}} for the label, got {template!r}")
    return tuple(templates)


def label_captions(label: str, templates: Sequence[str]) -> tuple[str, ...]:
    """Each template with the label in its `{}`."""
    return tuple(clean_caption(template.replace("{}", label)) for template in templates)


def parse_record(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; SampleError when there is none."""
    if len(data) > MAX_RECORD_BYTES:
        raise SampleError(f"its json has {len(data)} bytes, at most {MAX_RECORD_BYTES} are read")
    try:
        record = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SampleError(f"its json cannot be read: {error}") from None
    if not isinstance(record, dict):
        raise SampleError(f"its json must be an object, got {type(record).__name__}")
    return record


def captions_of(record: dict[str, Any]) -> tuple[str, ...]:
    """The cleaned strings under `captions` (a list) or `caption` (one); empty ones are dropped."""
    key = "captions" if record.get("captions") is not None else "caption"
    value = record.get(key)
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise SampleError(f"{key} must be a string or a list of strings")
    return tuple(text for text in map(storable, texts) if text)


def label_of(record: dict[str, Any]) -> str | None:
    """The string (or whole number) under `label`, cleaned; None where there is none."""
    label = record.get("label")
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise SampleError(f"label must be a string, got {type(label).__name__}")
    return storable(str(label)) or None


def make_entry(
    name: str,
    image: Path | Stored,
    captions: tuple[str, ...],
    label: str | None,
    templates: Sequence[str] | None,
) -> Entry:
    """An entry; captions come from the templates where a sample has only a label. SampleError without any."""
    if not captions and label is not None and templates:
        captions = label_captions(label, templates)
    if not captions:
        hint = " and no templates were given for its label" if label is not None else ""
        raise SampleError(f"it has no captions{hint}")
    return Entry(name, image, captions, label)


def storable(text: str) -> str:
    """A text of a sample, cleaned; SampleError for lone surrogates, which no tokenizer and no file can take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SampleError("its text is not valid Unicode") from None
    return clean_caption(text)
