"""Samples of a data source, read on demand."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from multimodal.results import Rejected


class SampleError(ValueError):
    """A sample that cannot be used; the message is the reason in a few words."""


class Sample(NamedTuple):
    """One item of each modality with the texts that describe them."""

    name: str
    inputs: dict[str, bytes | Path]  # by modality: an encoded file, or the path of one; empty for texts alone
    captions: tuple[str, ...]  # at least one
    label: str | None


class Stored(Protocol):
    """Bytes that are read on demand."""

    @property
    def size(self) -> int:
        """Their number."""

    def read(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample whose inputs have not been read yet."""

    name: str
    inputs: Mapping[str, Path | Stored]
    captions: tuple[str, ...]
    label: str | None

    def read(self, modality: str) -> bytes | Path:
        """One input of the sample. Raises OSError if its file has vanished."""
        stored = self.inputs[modality]
        return stored if isinstance(stored, Path) else stored.read()


class Source(Sequence[Sample]):
    """A sequence of samples whose inputs are read on demand. `rejected` lists unusable items with a reason.

    A reader may start with an empty source and append to `entries`, each within a block `rejecting(name)`.
    """

    def __init__(self, path: str | Path, entries: Iterable[Entry] = (), rejected: Iterable[Rejected] = ()) -> None:
        self.path = Path(path)
        self.entries = list(entries)
        self.rejected = list(rejected)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        """The sample at `index` with its inputs. Raises OSError if a file has vanished."""
        entry = self.entries[index]
        inputs = {modality: entry.read(modality) for modality in entry.inputs}
        return Sample(entry.name, inputs, entry.captions, entry.label)

    def thin(self, limit: int | None) -> "Source":
        """At most `limit` samples, evenly spaced, so that a source sorted by class keeps every class."""
        count = len(self)
        if limit is None or count <= limit:
            return self
        return Source(self.path, [self.entries[i * count // limit] for i in range(limit)], self.rejected)

    @contextmanager
    def rejecting(self, name: str) -> Iterator[None]:
        """A SampleError or OSError within the block puts the item `name` into `rejected`."""
        try:
            yield
        except (SampleError, OSError) as error:
            self.rejected.append(Rejected(name, str(getattr(error, "strerror", None) or error)))

    def summary(self) -> str:
        """One line: the number of samples, the number of rejected items and the first three of them."""
        shown = "; ".join(map(str, self.rejected[:3])) + ("; ..." if len(self.rejected) > 3 else "")
        return f"{len(self)} samples, {len(self.rejected)} rejected" + (f" ({shown})" if shown else "")

    def __repr__(self) -> str:
        return f"Source({str(self.path)!r}: {self.summary()})"


def check_templates(templates: Sequence[str]) -> None:
    """Raise ValueError unless each template has one `{}` for the label."""
    if isinstance(templates, str):
        raise ValueError(f"templates: expected a list of strings with a {{}} in each, got {templates!r}")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(f"template: expected a string with one {{}} for the label, got {template!r}")


def label_captions(label: str, templates: Sequence[str]) -> tuple[str, ...]:
    """Each template with its `{}` replaced by the label."""
    return tuple(template.replace("{}", label) for template in templates)
