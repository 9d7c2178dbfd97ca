"""From the record of one sample, such as a JSON object or a row of a table, to an `Entry`."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal.datasets.sample import Entry, SampleError, Stored, check_templates, label_captions
from multimodal.preprocess import IMAGE_SUFFIXES, clean_caption

MAX_RECORD_BYTES = 1_000_000  # of the JSON or text of one sample
# The names of columns and JSON keys in data sets: of those with one meaning, the first that is present counts.
NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8"))
TEXT_SUFFIXES = (".caption", ".txt", ".text")
SIDECAR_SUFFIXES = (".json", *TEXT_SUFFIXES, ".cls")  # of files that describe the input beside them


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source.

    templates: make captions, such as "a photo of a {}", for samples that only have a label.
    suffixes: the modalities that each sample must have, with the file suffixes of each, lower case with the
        dot; empty for texts alone.
    image_key, caption_key: the column of a table, or the key of a JSON object, that holds the path of the image and
        the captions; None: recognised by the names in names.json.
    split: the samples whose column or key `split` this is, or the folder of this name beside other splits; None: all.
    """

    templates: Sequence[str] | None = None
    suffixes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"image": IMAGE_SUFFIXES})
    image_key: str | None = None
    caption_key: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if self.templates is not None:
            check_templates(self.templates)

    def modality_of(self, suffix: str) -> str | None:
        """The modality of files with this suffix; None if it belongs to no wanted modality."""
        suffix = suffix.lower()
        return next((name for name, suffixes in self.suffixes.items() if suffix in suffixes), None)

    def path_keys(self, modality: str, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that hold the path of a modality: the key of its name, except for images."""
        return find_keys(keys, NAMES["image"], self.image_key if modality == "image" else modality)


def find_keys(keys: Iterable[str], names: Sequence[str], exact: str | None = None) -> list[str]:
    """The keys called `exact`, or else by the first of `names` that there is, as "Caption_1" by "caption"."""
    if exact is not None:
        return [key for key in keys if key.casefold() == exact.casefold()]
    plain = {key: re.sub("[^a-z]", "", key.lower()) for key in keys}
    first = next((name for name in names if name in plain.values()), None)
    return [key for key in plain if plain[key] == first]


def parse_record(data: bytes | str) -> dict[str, Any]:
    """The JSON object in `data`. Raises SampleError for anything else."""
    try:
        record = json.loads(data if isinstance(data, str) else data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SampleError(f"its json cannot be read: {error}") from None
    if not isinstance(record, dict):
        raise SampleError(f"its json must be an object, got {type(record).__name__}")
    return record


def read_record(files: Mapping[str, Path | Stored]) -> dict[str, Any]:
    """The record in the files of SIDECAR_SUFFIXES that lie beside an input, by suffix.

    A text file comes after the keys `captions`, `caption` and `text` of a JSON object, and before its other keys.
    """
    data: dict[str, bytes] = {}
    for suffix in SIDECAR_SUFFIXES:
        if (file := files.get(suffix)) is not None:
            size, read = (file.stat().st_size, file.read_bytes) if isinstance(file, Path) else (file.size, file.read)
            if size > MAX_RECORD_BYTES:
                raise SampleError(f"its {suffix} has {size} bytes, at most {MAX_RECORD_BYTES} are read")
            data[suffix] = read()
    record = parse_record(data.pop(".json", b"{}"))
    texts = {suffix: text.decode("utf-8-sig", "surrogateescape") for suffix, text in data.items()}
    label = texts.pop(".cls", None)
    record["label"] = label if record.get("label") is None else record["label"]
    text = next(filter(str.strip, texts.values()), None)
    if text is not None and not captions_of(record, NAMES["caption"][:3]):
        record["captions"] = text
    return record


def make_entry(
    name: str, inputs: Mapping[str, Path | Stored], record: Mapping[str, Any], options: SourceOptions
) -> Entry:
    """An entry with the captions and label of a record; the templates make captions for a label without any.

    Raises SampleError if it lacks captions or one of the wanted modalities, or belongs to another split.
    """
    for modality in options.suffixes:
        if modality not in inputs:
            raise SampleError(f"it has no {modality}")
    if options.split is not None and record.get("split") != options.split:
        raise SampleError(f"expected split {options.split!r}, got {record.get('split')!r}")
    captions, label = captions_of(record, exact=options.caption_key), label_of(record)
    if not captions and label is not None:
        captions = label_captions(label, options.templates or ())
    if not captions:
        hint = " and no templates were given for its label" if label is not None else ""
        raise SampleError(f"it has no captions{hint}")
    return Entry(name, dict(inputs), captions, label)


def captions_of(
    record: Mapping[str, Any], names: Sequence[str] = NAMES["caption"], exact: str | None = None
) -> tuple[str, ...]:
    """The texts under the keys of `find_keys`: strings, or lists of strings or of objects with one; none is empty.

    They stay as they are written: cleaning is the work of the tokenizer, which reads queries as well.
    """
    texts: list[str] = []
    for key in find_keys((key for key, value in record.items() if value is not None), names, exact):
        for item in record[key] if isinstance(record[key], list) else [record[key]]:
            if isinstance(item, dict):  # as in {"raw": "A dog runs.", "tokens": [...]}
                item = next((item[inner] for inner in find_keys(item, NAMES["caption"])), None)
            if not isinstance(item, str):
                raise SampleError(f"{key} must be a string or a list of strings")
            texts.append(_stripped(item))
    return tuple(text for text in texts if clean_caption(text))


def label_of(record: Mapping[str, Any]) -> str | None:
    """The string (or integer) under `label`, if there is one."""
    label = record.get("label")
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise SampleError(f"label must be a string, got {type(label).__name__}")
    return _stripped(str(label)) or None


def _stripped(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SampleError("its text is not valid Unicode") from None
    return text.strip()
