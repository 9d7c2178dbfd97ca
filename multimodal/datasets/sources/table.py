"""Tables of paths and captions: csv and jsonl."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal.datasets.sample import Entry, Source
from multimodal.datasets.sources import record as records
from multimodal.datasets.sources.lines import numbered_lines
from multimodal.datasets.sources.record import SampleError, SourceOptions
from multimodal.datasets.sources.registry import visible
from multimodal.files import printable
from multimodal.results import Rejected

TABLE_SUFFIXES = (".csv", ".jsonl")
COLUMNS = {"image": ("image", "path", "filename")}  # of other modalities: the name of the modality

Row = tuple[str, Mapping[str, Any] | SampleError]  # FILE:LINE and the record
Merged = tuple[str, dict[str, str], dict[str, Any]]  # FILE:LINE of the first row, paths by modality, record of all rows


class TableReader:
    """A `.csv` (with a header) or `.jsonl` file, or a folder with one of them.

    Columns: `image` (or `path` or `filename`) and the names of other modalities, with paths relative to the
    table; `caption` or `text` (in jsonl also a list `captions`); `label` is optional, and with templates makes
    missing captions. Rows with the same paths are one sample with all their captions; without modalities, each
    row is a sample. Unusable rows are in `.rejected` as `TABLE:LINE`.
    """

    expects = "a .csv or .jsonl file (or a folder with one)"

    def recognises(self, path: Path) -> bool:
        return bool(_tables(path))

    def read(self, path: Path, options: SourceOptions) -> Source:
        """Raises ValueError if a csv lacks the columns, and for a folder with several tables."""
        [table, *more] = _tables(path) or [path]
        if more:
            raise ValueError(f"{path}: expected one table, got {table.name}, {more[0].name}")
        rejected: list[Rejected] = []
        entries: list[Entry] = []
        for first, paths, record in _merged(table, options, rejected):
            try:
                files = {modality: table.parent / name for modality, name in paths.items()}
                for modality, file in files.items():
                    if not file.is_file():
                        raise SampleError(f"there is no file {printable(paths[modality])}")
                name = printable(next(iter(paths.values()), first))
                entries.append(records.make_entry(name, files, record, options))
            except (SampleError, OSError) as error:
                rejected.append(Rejected(first, str(error)))
        return Source(table, entries, rejected)


def _tables(path: Path) -> list[Path]:
    """The table at `path`, or the tables in the folder `path`."""
    return [each for each in visible(path) if each.suffix.lower() in TABLE_SUFFIXES and not each.is_dir()]


def _merged(table: Path, options: SourceOptions, rejected: list[Rejected]) -> Iterable[Merged]:
    """The samples of a table, each with the captions and the label of all its rows."""
    merged: dict[object, Merged] = {}
    for name, record in _csv_rows(table, options) if table.suffix.lower() == ".csv" else _jsonl_rows(table):
        try:
            if isinstance(record, SampleError):
                raise record
            paths = {modality: _path_in(record, modality) for modality in options.suffixes}
            captions, label = records.captions_of(record), records.label_of(record)
            key, record = tuple(paths.values()) or name, {"captions": [], "label": label}
            first, _, known = merged.setdefault(key, (name, paths, record))
            if label is not None and known["label"] not in (None, label):
                raise SampleError(f"label {label!r}, but {known['label']!r} in {first}")
        except SampleError as error:
            rejected.append(Rejected(name, str(error)))
            continue
        known["captions"] += dict.fromkeys(text for text in captions if text not in known["captions"])
        known["label"] = label or known["label"]
    return merged.values()


def _path_in(record: Mapping[str, Any], modality: str) -> str:
    columns = COLUMNS.get(modality, (modality,))
    paths = [path.strip() for path in map(record.get, columns) if isinstance(path, str) and path.strip()]
    if not paths or "\0" in paths[0]:
        raise SampleError(f"it names no {modality} (expected a path in {', '.join(columns)})")
    return paths[0]


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for name, line in numbered_lines(path):
        try:
            yield name, line if isinstance(line, SampleError) else records.parse_record(line)
        except SampleError as error:
            yield name, error


def _csv_rows(path: Path, options: SourceOptions) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)  # otherwise an open quote swallows all rows after it
        try:
            header = [column.strip().lower() for column in next(reader, [])]
        except csv.Error as error:
            raise ValueError(f"{path}: its first line cannot be read as csv: {error}") from None
        wanted: list[tuple[str, ...]] = [COLUMNS.get(modality, (modality,)) for modality in options.suffixes]
        wanted.append((*records.CAPTION_KEYS, "label"))
        if not all(set(header) & set(columns) for columns in wanted):
            expected = " and ".join(" or ".join(columns) for columns in wanted)
            raise ValueError(f"{path}: expected a header with {expected}, got {', '.join(header)[:200]!r}")
        while True:
            line = reader.line_num + 1
            name = f"{path.name}:{line}"
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                until = f" up to line {reader.line_num}" if reader.line_num > line else ""
                yield name, SampleError(f"it cannot be read as csv{until}: {error}")
                continue
            if len(row) == len(header):
                yield name, dict(zip(header, row, strict=True))
            elif row:  # not a blank line
                yield name, SampleError(f"it has {len(row)} fields, the header has {len(header)}")
