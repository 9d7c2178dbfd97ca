"""Tables of paths and captions: csv and jsonl."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal.datasets.sample import SampleError, Source
from multimodal.datasets.sources import record as records
from multimodal.datasets.sources.lines import numbered_lines
from multimodal.datasets.sources.record import SourceOptions
from multimodal.datasets.sources.registry import visible
from multimodal.files import printable
from multimodal.results import Rejected

TABLE_SUFFIXES = (".csv", ".jsonl")
# The columns that may hold the path of a modality; of other modalities: its name.
COLUMNS: dict[str, tuple[str, ...]] = {"image": ("image", "path", "filename")}

Row = tuple[str, Mapping[str, Any]]  # FILE:LINE and the record


class TableReader:
    """A `.csv` (with a header) or `.jsonl` file, or a folder with one of them.

    Columns: `image` (or `path` or `filename`) and the names of other modalities, with paths relative to the
    table; `caption` or `text` (in jsonl also a list `captions`); `label` is optional, and with templates makes
    missing captions. Rows with the same paths are one sample with all their captions; without modalities, each
    row is a sample. Unusable rows are in `.rejected` as `TABLE:LINE`.
    """

    expects = "a .csv or .jsonl file (or a folder with one)"

    def recognises(self, path: Path) -> bool:
        return bool(visible(path, TABLE_SUFFIXES))

    def read(self, path: Path, options: SourceOptions) -> Source:
        """Raises ValueError if a csv lacks the columns, and for a folder with several tables."""
        [table, *more] = visible(path, TABLE_SUFFIXES) or [path]
        if more:
            raise ValueError(f"{path}: expected one table, got {table.name}, {more[0].name}")
        source = Source(table)
        rows = _csv_rows(source, options) if table.suffix.lower() == ".csv" else _jsonl_rows(source)
        merged: dict[object, tuple[str, dict[str, str], dict[str, Any]]] = {}  # the first row, paths, record of all
        for name, row in rows:
            with source.rejecting(name):
                paths = {modality: _path_in(row, modality) for modality in options.suffixes}
                captions, label = records.captions_of(row), records.label_of(row)
                key = tuple(paths.values()) or name
                first, _, record = merged.setdefault(key, (name, paths, {"captions": [], "label": label}))
                if label is not None and record["label"] not in (None, label):
                    raise SampleError(f"label {label!r}, but {record['label']!r} in {first}")
                record["captions"] += dict.fromkeys(text for text in captions if text not in record["captions"])
                record["label"] = label or record["label"]
        for first, paths, record in merged.values():
            with source.rejecting(first):
                files = {modality: table.parent / name for modality, name in paths.items()}
                for modality, file in files.items():
                    if not file.is_file():
                        raise SampleError(f"there is no file {printable(paths[modality])}")
                name = printable(next(iter(paths.values()), first))
                source.entries.append(records.make_entry(name, files, record, options))
        return source


def _path_in(row: Mapping[str, Any], modality: str) -> str:
    columns = COLUMNS.get(modality, (modality,))
    paths = [path.strip() for path in map(row.get, columns) if isinstance(path, str) and path.strip()]
    if not paths or "\0" in paths[0]:
        raise SampleError(f"it names no {modality} (expected a path in {', '.join(columns)})")
    return paths[0]


def _jsonl_rows(source: Source) -> Iterator[Row]:
    for name, line in numbered_lines(source):
        with source.rejecting(name):
            yield name, records.parse_record(line)


def _csv_rows(source: Source, options: SourceOptions) -> Iterator[Row]:
    with open(source.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)  # otherwise an open quote swallows all rows after it
        try:
            header = [column.strip().lower() for column in next(reader, [])]
        except csv.Error as error:
            raise ValueError(f"{source.path}: its first line cannot be read as csv: {error}") from None
        wanted = [COLUMNS.get(modality, (modality,)) for modality in options.suffixes]
        wanted.append((*records.CAPTION_KEYS, "label"))
        if not all(set(header) & set(columns) for columns in wanted):
            expected = " and ".join(" or ".join(columns) for columns in wanted)
            raise ValueError(f"{source.path}: expected a header with {expected}, got {', '.join(header)[:200]!r}")
        while True:
            name = f"{source.path.name}:{reader.line_num + 1}"
            try:
                row = next(reader, None)
            except csv.Error as error:
                reason = f"up to line {reader.line_num}, it cannot be read as csv: {error}"
                source.rejected.append(Rejected(name, reason))
                continue
            if row is None:
                return
            if len(row) == len(header):
                yield name, dict(zip(header, row, strict=True))
            elif row:  # not a blank line
                source.rejected.append(Rejected(name, f"it has {len(row)} fields, the header has {len(header)}"))
