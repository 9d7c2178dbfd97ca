"""The registry of data formats, and `open_source`, which picks one by the contents of a path."""

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from multimodal.config import Registry
from multimodal.datasets.sample import Source
from multimodal.datasets.sources.record import SourceOptions
from multimodal.files import local_path
from multimodal.preprocess import IMAGE_SUFFIXES
from multimodal.results import Rejected

MAX_FILES = 1_000_000  # of a range in a pattern


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
    **keys: str | None,
) -> Source:
    """The samples at `path`, read by the reader registered as `kind`, or by the first that recognises them.

    path: a file or folder, or a pattern of several: `{000..999}.tar`, `{a,b}.csv`, `*.tar`. Files of a pattern in
    braces that do not exist are rejected.
    templates, suffixes, keys (`image_key`, `caption_key`, `split`): see `SourceOptions`. By default, each sample needs
    an image. The reader registered last is asked first.
    Raises FileNotFoundError if the path does not exist and ValueError if no reader recognises it or it holds
    no usable sample.
    """
    path = local_path(path)
    options = SourceOptions(templates, {"image": IMAGE_SUFFIXES} if suffixes is None else suffixes, **keys)
    readers = dict(reversed(SOURCES.items())) if kind is None else {kind: SOURCES[kind]}
    expected = "expected " + ", or ".join(getattr(each, "expects", name) for name, each in readers.items())
    files = [path] if path.exists() else list(dict.fromkeys(expand(str(path))))
    if not any(file.exists() for file in files):
        raise FileNotFoundError(f"no data at {path}: {expected}")
    source = Source(path)
    for file in files:
        if not file.exists():
            source.rejected.append(Rejected(file.name, "there is no such file"))
            continue
        reader = next((each for name, each in readers.items() if name == kind or each.recognises(file)), None)
        if reader is None:
            got = f"a {file.suffix} file" if file.suffix else "a file without a suffix"
            raise ValueError(f"{file}: {expected}, got {'an empty folder' if file.is_dir() else got}")
        part = reader.read(file, options)
        source.entries += part.entries
        source.rejected += part.rejected
    if not len(source):
        raise ValueError(f"{path}: expected samples, got {source.summary()}")
    return source


def expand(pattern: str) -> list[Path]:
    """The paths that a pattern stands for: all of its braces, `{000..999}` or `{a,b}`, and the files of its `*?[]`."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [Path(name) for name in (sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern])]
    choices: Iterable[str] = braces[1].split(",")
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", braces[1]):
        first, last = map(int, numbers.groups())
        if not 0 <= last - first < MAX_FILES:
            raise ValueError(f"path: expected a rising range of at most {MAX_FILES} files, got {braces[0]}")
        choices = (f"{i:0{len(numbers[1])}d}" for i in range(first, last + 1))
    return [path for choice in choices for path in expand(pattern[: braces.start()] + choice + pattern[braces.end() :])]


def visible(path: Path, suffixes: tuple[str, ...] = ("",)) -> list[Path]:
    """The files and folders with these suffixes in a folder, sorted, without hidden ones; a file stands for itself."""
    found = (item for item in path.iterdir() if not item.name.startswith(".")) if path.is_dir() else [path]
    return sorted(item for item in found if item.name.lower().endswith(suffixes))
