"""A folder with one folder of images per class."""

import os
from collections.abc import Sequence
from pathlib import Path

from multimodal.datasets.sample import (
    Entry,
    SampleError,
    Source,
    check_templates,
    label_captions,
    storable,
)
from multimodal.preprocess import IMAGE_SUFFIXES, printable
from multimodal.results import Rejected

TEMPLATES = ("a photo of a {}",)


def read_folder(path: str | Path, templates: Sequence[str] | None = None) -> Source:
    """Images in `path/CLASS/`, at any depth: the label is the folder's name, `_` and `-` read as spaces.

    The captions are the `templates` (or "a photo of a {}") with the label in. Samples are named `CLASS/...`.
    Files that are no images, and images outside the class folders, are in `.rejected`; hidden files are
    passed over.
    """
    path = Path(path)
    templates = TEMPLATES if templates is None else check_templates(templates)
    entries: list[Entry] = []
    rejected: list[Rejected] = []
    for item in sorted(path.iterdir()):
        if item.name.startswith("."):
            continue
        if not item.is_dir():
            rejected.append(Rejected(printable(item.name), "not in a class folder"))
            continue
        try:
            label = storable(item.name.replace("_", " ").replace("-", " "))
        except SampleError:
            label = ""
        captions = label_captions(label, templates) if label else ()
        for file in _files(item):
            name = printable(str(file.relative_to(path)))
            if not captions:
                rejected.append(Rejected(name, "its folder's name gives no label"))
            elif file.suffix.lower() in IMAGE_SUFFIXES:
                entries.append(Entry(name, file, captions, label))
            else:
                rejected.append(Rejected(name, f"not an image file by its suffix {file.suffix!r}"))
    return Source(path, entries, rejected)


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(base, name) for name in names if not name.startswith(".")]
    return sorted(found)
