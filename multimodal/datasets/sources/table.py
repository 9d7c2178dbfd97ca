"""Tables of paths and captions: csv, jsonl and the annotation files of data sets."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from multimodal.datasets.sample import SampleError, Source
from multimodal.datasets.sources import record as records
from multimodal.datasets.sources.delimited import COMMENT_NUMBER, SNIFFED_LINES, delimited_rows, sniff
from multimodal.datasets.sources.lines import numbered_lines, read_lines
from multimodal.datasets.sources.record import NAMES, SourceOptions
from multimodal.datasets.sources.registry import visible
from multimodal.files import local_path, printable
from multimodal.preprocess import IMAGE_SUFFIXES
from multimodal.results import Rejected

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".token")
TEXT_FOLDERS = ("annotations", "captions", "flickr8k_text")  # whose images are in folders beside them
MAX_FOLDERS = 64  # beside a table in which a file is searched
ANNOTATIONS = re.compile(r'^\s*\[\s*{|"(images|annotations)"\s*:\s*\[')  # at the start of a JSON table


class TableReader:
    """A table of paths and captions, or a folder with one of them.

    Delimited text (`.csv`, `.tsv`, `.txt`, `.token`; with a comma, tab, semicolon or vertical bar), with a header or
    with two clear columns; `.jsonl`; `.json`: a list of records, an object of captions by path, COCO's captions or
    Karpathy's splits. Columns: the path of the image, such as `image`, `file_name` or `filepath`, and the names of
    other modalities; captions, such as `caption`, `text` or `caption_1` to `caption_5`; `label` is optional, and with
    templates makes missing captions. Cells such as "nan" or "NULL" are empty. Paths are relative to the table, or to
    one of the folders beside it. Rows with the same paths are one sample with all their captions; without modalities,
    each row is a sample. Unusable rows are in `.rejected` as `TABLE:LINE`.
    """

    expects = "a table (.csv, .tsv, .jsonl or .json) or a folder with one"

    def recognises(self, path: Path) -> bool:
        return bool(tables_in(path))

    def read(self, path: Path, options: SourceOptions) -> Source:
        """Raises ValueError if a table lacks the columns, and for a folder with several tables."""
        [table, *more] = tables_in(path) or [path]
        if more:
            raise ValueError(f"{path}: expected one table, got {table.name}, {more[0].name}")
        source = Source(table)
        read_rows = {".jsonl": _jsonl_rows, ".json": _json_rows}.get(table.suffix.lower(), delimited_rows)
        merged: dict[object, tuple[str, dict[str, str], dict[str, Any]]] = {}  # the first row, paths, record of all
        for name, cells in read_rows(source, options):
            row = {key: value for key, value in cells.items() if not _is_missing(value)}
            if options.split is not None and row.get("split", options.split) != options.split:
                continue
            with source.rejecting(name):
                paths = {modality: _path_in(row, modality, options) for modality in options.suffixes}
                captions, label = records.captions_of(row, exact=options.caption_key), records.label_of(row)
                record: dict[str, Any] = {"captions": [], "label": label, "split": row.get("split")}
                first, _, record = merged.setdefault(tuple(paths.values()) or name, (name, paths, record))
                if label is not None and record["label"] not in (None, label):
                    raise SampleError(f"label {label!r}, but {record['label']!r} in {first}")
                record["captions"] += dict.fromkeys(text for text in captions if text not in record["captions"])
                record["label"] = label or record["label"]
        folders = [table.parent, *_folders_in(table.parent)]
        if table.parent.name.lower() in TEXT_FOLDERS:
            folders += [table.parent.parent, *_folders_in(table.parent.parent)]
        options = replace(options, caption_key=None)
        for first, paths, record in merged.values():
            with source.rejecting(first):
                files = {modality: _find(path, folders) for modality, path in paths.items()}
                name = printable(next(iter(paths.values()), first))
                source.entries.append(records.make_entry(name, files, record, options))
        return source


def tables_in(path: Path) -> list[Path]:
    """The tables in a folder, or only the metadata of an imagefolder; a table stands for itself."""
    if not path.is_dir():
        return [path] if path.suffix.lower() in (*TABLE_SUFFIXES, ".json") or _is_table(path) else []
    files = [item for item in visible(path) if item.is_file()]
    images = {file.stem for file in files if file.suffix.lower() in IMAGE_SUFFIXES}  # may have texts beside them
    found = [f for f in files if f.suffix.lower() in TABLE_SUFFIXES or (f.stem not in images and _is_table(f))]
    return [file for file in found if file.stem == "metadata"] or found


def _is_table(path: Path) -> bool:
    """Whether the contents of a `.json` or `.txt` file are a table."""
    with suppress(OSError, ValueError):
        if path.suffix.lower() == ".json":
            return ANNOTATIONS.search("".join(islice(read_lines(path), SNIFFED_LINES))[: 2**16]) is not None
        return path.suffix.lower() == ".txt" and bool(sniff(path, SourceOptions()))
    return False


def _folders_in(path: Path) -> list[Path]:
    folders = [item for item in visible(path) if item.is_dir()]
    return folders if len(folders) <= MAX_FOLDERS else []


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().casefold() in NAMES["missing"]
    return value is None or value != value  # NaN


def _path_in(row: Mapping[str, Any], modality: str, options: SourceOptions) -> str:
    path = next((row[key] for key in options.path_keys(modality, row)), None)
    if not isinstance(path, str) or "\0" in path:
        key = options.image_key if modality == "image" and options.image_key else modality
        raise SampleError(f"it names no {modality} (expected a path in {key})")
    return COMMENT_NUMBER.sub("", path.strip())


def _find(path: str, folders: list[Path]) -> Path:
    """The file at `path` in the first of `folders`, that of the table, or in exactly one of the others."""
    for given in dict.fromkeys((path, path.replace("\\", "/"))):
        where = folders[:1] if ".." in given else folders
        found = [file for folder in where if (file := folder / local_path(given)).is_file()]
        if len(found) > 1 and found[0] != folders[0] / local_path(given):
            raise SampleError(f"expected one file {printable(path)}, got {found[0]} and {found[1]}")
        if found:
            return found[0]
    raise SampleError(f"there is no file {printable(path)}")


def _jsonl_rows(source: Source, options: SourceOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, line in numbered_lines(source):
        with source.rejecting(name):
            yield name, records.parse_record(line)


def _json_rows(source: Source, options: SourceOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        document = json.loads("".join(read_lines(source.path)))
        if isinstance(document, dict):
            annotated = isinstance(document.get("images"), list)
            document = _annotated(document) if annotated else [{"image": k, "captions": v} for k, v in document.items()]
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise ValueError(f"{source.path}: expected JSON of records or annotations, got {error}") from None
    for i, row in enumerate(document if isinstance(document, list) else [document]):
        name = f"{source.path.name}[{i}]"
        if isinstance(row, dict):
            yield name, row
        else:
            source.rejected.append(Rejected(name, f"expected an object, got {type(row).__name__}"))


def _annotated(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The images of COCO's JSON (captions in `annotations`) or of Karpathy's (in `sentences`), as records."""
    captions: dict[str, list[Any]] = {}
    for each in document.get("annotations") or []:
        if "caption" in each:
            captions.setdefault(str(each.get("image_id")), []).append(each["caption"])
    rows = []
    for image in document["images"]:
        path = image.get("file_name") or str(Path(image.get("filepath", ""), image.get("filename", "")))
        texts = captions.get(str(image.get("id")), [])
        rows.append({"image": path, "captions": image.get("sentences", texts), "split": image.get("split")})
    return rows
