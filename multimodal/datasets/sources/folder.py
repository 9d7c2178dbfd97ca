"""A folder with one folder of files per class."""

from pathlib import Path

from multimodal.datasets.sample import SampleError, Source
from multimodal.datasets.sources.record import SourceOptions, make_entry
from multimodal.files import printable
from multimodal.preprocess.sources import walk

TEMPLATES = ("a photo of a {}",)


class FolderReader:
    """Files in `path/CLASS/`, at any depth. The label is the folder's name with `_` and `-` as spaces.

    The captions are the `templates` (default: "a photo of a {}") with the label. Samples are named
    `CLASS/...`. With several modalities, the files of a sample differ in their suffixes only, and its name has
    none. Files with other suffixes or outside the class folders are rejected; hidden files are skipped.
    """

    expects = "a folder with one folder of files per class"

    def recognises(self, path: Path) -> bool:
        return any(names and folder != str(path) for folder, names in walk(str(path)))

    def read(self, path: Path, options: SourceOptions) -> Source:
        options = SourceOptions(TEMPLATES if options.templates is None else options.templates, options.suffixes)
        wanted = " or ".join(options.suffixes) or "no modality"
        source = Source(path)
        samples: dict[Path, dict[str, Path]] = {}
        for file in sorted(Path(folder, name) for folder, names in walk(str(path)) for name in names):
            with source.rejecting(printable(str(file.relative_to(path)))):
                modality = options.modality_of(file.suffix)
                if file.parent == path:
                    raise SampleError("not in a class folder")
                if modality is None:
                    raise SampleError(f"expected a suffix of {wanted}, got {file.suffix!r}")
                inputs = samples.setdefault(file if len(options.suffixes) == 1 else file.with_suffix(""), {})
                if inputs.setdefault(modality, file) != file:
                    raise SampleError(f"a second {modality}")
        for place, inputs in samples.items():
            name = place.relative_to(path)
            label = name.parts[0].replace("_", " ").replace("-", " ")
            with source.rejecting(printable(str(name))):
                if not label.strip():
                    raise SampleError("its folder's name gives no label")
                source.entries.append(make_entry(printable(str(name)), inputs, {"label": label}, options))
        return source
