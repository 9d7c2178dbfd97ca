"""Tables of image paths and captions: csv and jsonl."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from multimodal.datasets.sample import (
    MAX_RECORD_BYTES,
    Entry,
    SampleError,
    Source,
    captions_of,
    label_of,
    make_entry,
    parse_record,
)
from multimodal.preprocess import printable
from multimodal.results import Rejected

TABLE_SUFFIXES = (".csv", ".jsonl")
IMAGE_COLUMNS = ("image", "path", "filename")


def read_table(path: str | Path, templates: Sequence[str] | None = None) -> Source:
    """Samples from a `.csv` (with a header) or `.jsonl` file.

    Columns: `image` (or `path` or `filename`), relative to the table; `caption` (or, in jsonl, a list
    `captions`); `label` is optional, and makes captions by `templates` where there are none. Rows of the same
    image are one sample with all their captions. Rows that cannot be used are in `.rejected` as `TABLE:LINE`.
    Raises ValueError when a csv lacks the columns.
    """
    path = Path(path)
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path)
    rejected: list[Rejected] = []
    merged: dict[str, tuple[str, list[str], str | None]] = {}  # image -> first row's name, captions, label
    for name, record in rows:
        try:
            if isinstance(record, SampleError):
                raise record
            image = _image_of(record)
            captions, label = captions_of(record), label_of(record)
        except SampleError as error:
            rejected.append(Rejected(name, str(error)))
            continue
        first, texts, known = merged.setdefault(image, (name, [], label))
        if label is not None and known is not None and label != known:
            rejected.append(Rejected(name, f"label {label!r}, but {known!r} in {first}"))
            continue
        texts.extend(text for text in captions if text not in texts)
        merged[image] = (first, texts, known if known is not None else label)
    entries: list[Entry] = []
    for image, (first, texts, label) in merged.items():
        try:
            file = path.parent / image
            if not file.is_file():
                raise SampleError(f"there is no file {printable(image)}")
            entries.append(make_entry(printable(image), file, tuple(texts), label, templates))
        except (SampleError, OSError) as error:
            rejected.append(Rejected(first, str(error)))
    return Source(path, entries, rejected)


def _image_of(record: dict[str, Any]) -> str:
    for column in IMAGE_COLUMNS:
        image = record.get(column)
        if isinstance(image, str) and image.strip():
            if "\0" in image:
                break
            return image.strip()
    raise SampleError(f"it names no image (expected a path in {', '.join(IMAGE_COLUMNS)})")


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | SampleError]]:
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            name = f"{path.name}:{number}"
            if len(line) > MAX_RECORD_BYTES:
                while not line.endswith(b"\n") and (line := file.readline(MAX_RECORD_BYTES)):
                    pass
                yield name, SampleError(f"the line is longer than {MAX_RECORD_BYTES} bytes")
            elif line.strip():
                try:
                    yield name, parse_record(line)
                except SampleError as error:
                    yield name, error


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | SampleError]]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)  # or an open quote swallows all rows after it
        try:
            header = [column.strip().lower() for column in next(reader, [])]
        except csv.Error as error:
            raise ValueError(f"{path}: its first line cannot be read as csv: {error}") from None
        if not set(header) & set(IMAGE_COLUMNS) or not set(header) & {"caption", "captions", "label"}:
            raise ValueError(
                f"{path}: expected a header with {' or '.join(IMAGE_COLUMNS)} and caption or label, "
                f"got {', '.join(header)[:200]!r}"
            )
        while True:
            line = reader.line_num + 1
            name = f"{path.name}:{line}"
            try:
                row = next(reader, None)
            except csv.Error as error:
                until = f" up to line {reader.line_num}" if reader.line_num > line else ""
                yield name, SampleError(f"it cannot be read as csv{until}: {error}")
                continue
            if row is None:
                return
            if not row:
                continue
            if len(row) != len(header):
                yield name, SampleError(f"it has {len(row)} fields, the header has {len(header)}")
            else:
                yield name, dict(zip(header, row, strict=True))
