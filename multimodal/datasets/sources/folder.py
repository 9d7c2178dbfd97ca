"""Folders of files: with texts beside them, or with one folder per class."""

import re
from dataclasses import replace
from pathlib import Path

from multimodal.datasets.sample import SampleError, Source
from multimodal.datasets.sources.record import NAMES, SIDECAR_SUFFIXES, SourceOptions, make_entry, read_record
from multimodal.datasets.sources.registry import open_source, visible
from multimodal.datasets.sources.table import tables_in
from multimodal.files import printable
from multimodal.preprocess.sources import walk

TEMPLATES = ("a photo of a {}",)


class FolderReader:
    """Files at any depth below `path`, in one of these layouts; hidden files are skipped.

    - Texts beside the files: `a.jpg` with `a.txt`, `a.caption` or `a.json` (img2dataset, kohya). Files without any are
      rejected. The folders are classes only if `templates` are given.
    - Otherwise classes: files in `path/CLASS/`. The label is the folder's name with `_` and `-` as spaces, and the
      captions are the `templates` (default: "a photo of a {}") with the label.
    - Folders of splits alone, such as `train` and `val`: the one that `split` names, or the only one.

    Samples are named by their paths. With several modalities, the files of a sample differ in their suffixes only, and
    its name has none. Files with other suffixes or outside the class folders are rejected.
    """

    expects = "a folder of files with texts beside them, or with one folder of files per class"

    def recognises(self, path: Path) -> bool:
        return any(names for _, names in walk(str(path)))

    def read(self, path: Path, options: SourceOptions) -> Source:
        """Raises ValueError for several splits, and for tables below, whose captions must not be overlooked."""
        splits = [item for item in visible(path) if item.is_dir()]
        if splits and all(re.sub(r"[-_]?\d+$", "", item.name.lower()) in NAMES["splits"] for item in splits):
            chosen = [item for item in splits if options.split in (None, item.name)]
            if len(chosen) != 1:
                names = ", ".join(item.name for item in splits)
                raise ValueError(f"{path}: expected one split, got {names}; give the path of one, or its name as split")
            return open_source(chosen[0], **{**vars(options), "split": None})
        files = sorted(Path(folder, name) for folder, names in walk(str(path)) for name in names)
        below = dict.fromkeys(file.parent for file in files if file.parent != path)
        if options.templates is None and (tables := [table for folder in below for table in tables_in(folder)]):
            found = printable(str(tables[0].relative_to(path)))
            raise ValueError(f"{path}: expected a path to a table, got a folder with {found} in it; or give templates")

        source = Source(path)
        wanted = " or ".join(options.suffixes) or "no modality"
        samples: dict[Path, dict[str, Path]] = {}
        texts: dict[Path, dict[str, Path]] = {}  # by the path without its suffix, then by suffix
        for file in sorted(files, key=lambda file: file.suffix.lower() in SIDECAR_SUFFIXES):  # texts come last
            stem, suffix, modality = file.with_suffix(""), file.suffix.lower(), options.modality_of(file.suffix)
            with source.rejecting(printable(str(file.relative_to(path)))):
                if modality is not None:
                    inputs = samples.setdefault(file if len(options.suffixes) == 1 else stem, {})
                    if inputs.setdefault(modality, file) != file:
                        raise SampleError(f"a second {modality}")
                    texts.setdefault(stem, {})
                elif suffix in SIDECAR_SUFFIXES and stem in texts:
                    texts[stem][suffix] = file
                else:
                    raise SampleError(f"expected a suffix of {wanted}, got {file.suffix!r}")
        described = any(texts.values())
        classes = options.templates is not None or not described
        options = replace(options, templates=TEMPLATES if options.templates is None else options.templates)
        for place, inputs in samples.items():
            name = place.relative_to(path)
            with source.rejecting(printable(str(name))):
                record = read_record(texts[next(iter(inputs.values())).with_suffix("")])
                if classes and len(name.parts) > 1 and record["label"] is None:
                    record["label"] = label = name.parts[0].replace("_", " ").replace("-", " ")
                    if not label.strip():
                        raise SampleError("its folder's name gives no label")
                elif not described:
                    raise SampleError("not in a class folder")
                source.entries.append(make_entry(printable(str(name)), inputs, record, options))
        return source
