"""A folder with one folder of files per class."""

from pathlib import Path

from multimodal.datasets.sample import Entry, Source
from multimodal.datasets.sources.record import SampleError, SourceOptions, make_entry
from multimodal.datasets.sources.registry import visible
from multimodal.files import printable
from multimodal.preprocess.sources import walk
from multimodal.results import Rejected

TEMPLATES = ("a photo of a {}",)


class FolderReader:
    """Files in `path/CLASS/`, at any depth. The label is the folder's name with `_` and `-` as spaces.

    The captions are the `templates` (default: "a photo of a {}") with the label. Samples are named
    `CLASS/...`. With several modalities, the files of a sample differ in their suffixes only, and its name has
    none. Files with other suffixes or outside the class folders are rejected; hidden files are skipped.
    """

    expects = "a folder with one folder of files per class"

    def recognises(self, path: Path) -> bool:
        return path.is_dir() and any(item.is_dir() and _files(item) for item in visible(path))

    def read(self, path: Path, options: SourceOptions) -> Source:
        options = SourceOptions(TEMPLATES if options.templates is None else options.templates, options.suffixes)
        wanted = " or ".join(options.suffixes) or "no modality"
        samples: dict[Path, dict[str, Path]] = {}
        rejected: list[Rejected] = []
        for file in (file for item in visible(path) for file in (_files(item) if item.is_dir() else [item])):
            modality = options.modality_of(file.suffix)
            if file.parent == path:
                reason = "not in a class folder"
            elif modality is None:
                reason = f"expected a suffix of {wanted}, got {file.suffix!r}"
            else:
                inputs = samples.setdefault(file if len(options.suffixes) == 1 else file.with_suffix(""), {})
                if inputs.setdefault(modality, file) == file:
                    continue
                reason = f"a second {modality}"
            rejected.append(Rejected(printable(str(file.relative_to(path))), reason))
        entries: list[Entry] = []
        for place, inputs in samples.items():
            name = place.relative_to(path)
            label = name.parts[0].replace("_", " ").replace("-", " ")
            try:
                if not label.strip():
                    raise SampleError("its folder's name gives no label")
                entries.append(make_entry(printable(str(name)), inputs, {"label": label}, options))
            except SampleError as error:
                rejected.append(Rejected(printable(str(name)), str(error)))
        return Source(path, entries, rejected)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(base, name) for base, names in walk(str(folder)) for name in names)
