"""The registry of data formats, and `open_source`, which picks one by the contents of a path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from multimodal.config import Registry
from multimodal.datasets.sample import Source
from multimodal.datasets.sources.record import SourceOptions


class SourceReader(Protocol):
    """Reads one data format."""

    def recognises(self, path: Path) -> bool:
        """Whether `path`, which exists, looks like this format."""

    def read(self, path: Path, options: SourceOptions) -> Source:
        """Index the samples at `path`; unusable ones go to `Source.rejected` with a reason."""


# An attribute `expects` of a reader describes its format in messages.
SOURCES: Registry[SourceReader] = Registry("data source")


def open_source(
    path: str | Path,
    templates: Sequence[str] | None = None,
    suffixes: Mapping[str, tuple[str, ...]] | None = None,
    kind: str | None = None,
) -> Source:
    """The samples at `path`, read by the reader registered as `kind`, or by the first that recognises them.

    The reader registered last is asked first. `templates` and `suffixes`: see `SourceOptions`. By default,
    each sample needs an image.
    Raises FileNotFoundError if the path does not exist and ValueError if no reader recognises it or it holds
    no usable sample.
    """
    path = Path(path)
    options = SourceOptions(templates) if suffixes is None else SourceOptions(templates, suffixes)
    readers = dict(reversed(SOURCES.items())) if kind is None else {kind: SOURCES[kind]}
    expected = "expected " + ", or ".join(getattr(each, "expects", name) for name, each in readers.items())
    if not path.exists():
        raise FileNotFoundError(f"no data at {path}: {expected}")
    for name, reader in readers.items():
        if name == kind or reader.recognises(path):
            source: Source = reader.read(path, options)
            if not len(source):
                raise ValueError(f"{path}: expected samples, got {source.summary()}")
            return source
    raise ValueError(f"{path}: {expected}, got {_contents(path)}")


def _contents(path: Path) -> str:
    if not path.is_dir():
        return f"a {path.suffix} file" if path.suffix else "a file without a suffix"
    inside = visible(path)
    names = ", ".join(item.name for item in inside[:5]) + (", ..." if len(inside) > 5 else "")
    return f"a folder with {names}" if names else "an empty folder"


def visible(path: Path, suffixes: tuple[str, ...] = ("",)) -> list[Path]:
    """The files and folders with these suffixes in a folder, sorted, without hidden ones; a file stands for itself."""
    found = (item for item in path.iterdir() if not item.name.startswith(".")) if path.is_dir() else [path]
    return sorted(item for item in found if item.name.lower().endswith(suffixes))
