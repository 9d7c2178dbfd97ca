"""One door to every kind of source."""

from collections.abc import Sequence
from pathlib import Path

from multimodal.datasets.folder import read_folder
from multimodal.datasets.sample import Source, check_templates
from multimodal.datasets.table import TABLE_SUFFIXES, read_table
from multimodal.datasets.tar import TAR_SUFFIXES, read_tar
from multimodal.preprocess import IMAGE_SUFFIXES

EXPECTED = (
    "expected a .tar, .tar.gz or .tgz shard, a folder of shards, a folder with one folder of images per "
    "class, or a .csv or .jsonl file (or a folder with one)"
)


def open_source(path: str | Path, templates: Sequence[str] | None = None) -> Source:
    """The samples at `path`, by what lies there.

    `templates` (such as "a photo of a {}") make captions for samples that only have a label.
    Raises FileNotFoundError when nothing is there and ValueError when it is none of the known kinds, or when
    it holds no usable sample.
    """
    path = Path(path)
    if templates is not None:
        templates = check_templates(templates)
    if not path.exists():
        raise FileNotFoundError(f"no data at {path}: {EXPECTED}")
    source = _read(path, templates)
    if not len(source):
        raise ValueError(f"{path}: expected samples, got {source.summary()}")
    return source


def _read(path: Path, templates: Sequence[str] | None) -> Source:
    if not path.is_dir():
        if path.name.lower().endswith(TAR_SUFFIXES):
            return read_tar(path, templates)
        if path.suffix.lower() in TABLE_SUFFIXES:
            return read_table(path, templates)
        raise ValueError(f"{path}: {EXPECTED}, got a {path.suffix or 'nameless'} file")
    inside = sorted(item for item in path.iterdir() if not item.name.startswith("."))
    shards = [item for item in inside if item.name.lower().endswith(TAR_SUFFIXES)]
    if shards:
        return read_tar(shards, templates, root=path)
    tables = [item for item in inside if item.suffix.lower() in TABLE_SUFFIXES]
    if len(tables) == 1:
        return read_table(tables[0], templates)
    folders = [item for item in inside if item.is_dir()]
    if not tables and any(_has_images(folder) for folder in folders):
        return read_folder(path, templates)
    names = ", ".join(item.name for item in inside[:5]) + (", ..." if len(inside) > 5 else "")
    raise ValueError(f"{path}: {EXPECTED}, got a folder with {names or 'nothing in it'}")


def _has_images(folder: Path) -> bool:
    return any(item.suffix.lower() in IMAGE_SUFFIXES for item in folder.rglob("*"))
