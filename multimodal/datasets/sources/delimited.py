"""Delimited text (csv, tsv, ...) as records, whatever its delimiter, with or without a header."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from multimodal.datasets.sample import Source
from multimodal.datasets.sources.lines import read_lines
from multimodal.datasets.sources.record import NAMES, SourceOptions, find_keys
from multimodal.results import Rejected

DELIMITERS = ",\t;|"
SNIFFED_LINES = 50
MAX_CELL = 2**24  # characters
COMMENT_NUMBER = re.compile(r"#\d+$")  # of `name.jpg#0` in Flickr8k and Flickr30k


def delimited_rows(source: Source, options: SourceOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    """`FILE:LINE` and the record of each row; rows with another number of fields are rejected. Raises as `sniff`."""
    delimiter, header, named = sniff(source.path, options)
    for number, cells in islice(split_rows(read_lines(source.path), delimiter), int(named), None):
        name = f"{source.path.name}:{number}"
        if len(cells) == len(header):
            yield name, dict(zip(header, map(_value, cells), strict=True))
        else:
            reason = f"it has {len(cells)} fields, the table has {len(header)}" if cells else "its quotes do not match"
            source.rejected.append(Rejected(name, reason))


def sniff(path: Path, options: SourceOptions) -> tuple[str, list[str], bool]:
    """The delimiter, the names of the columns, and whether the first row holds them.

    Without a header, the column of a modality is the one whose cells all have a suffix of the modality, and one other
    column must have texts. Raises ValueError if no delimiter gives the wanted columns.
    """
    lines = list(islice(read_lines(path), SNIFFED_LINES))
    tables = {mark: [cells for _, cells in split_rows(lines, mark)] for mark in DELIMITERS}
    for mark, [first, *_] in ((mark, rows) for mark, rows in tables.items() if rows):
        header = [cell.strip().lower() for cell in first]
        described = find_keys(header, NAMES["caption"], options.caption_key) or "label" in header
        if described and all(options.path_keys(modality, header) for modality in options.suffixes):
            return mark, [name if name not in header[:i] else f"{name} {i}" for i, name in enumerate(header)], True
    for mark, rows in tables.items():
        header = _kinds(rows, options)
        if options.suffixes and sorted(filter(None, header)) == sorted([*options.suffixes, "caption"]):
            return mark, header, False
    paths = [options.image_key or name if name == "image" else name for name in options.suffixes]
    expected = " and ".join([*paths, options.caption_key or "caption"])
    got = lines[0].strip()[:200] if lines else ""
    raise ValueError(f"{path}: expected columns for {expected} (or their names as image_key, caption_key), got {got!r}")


def split_rows(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line and the cells of each row that is not blank.

    Where quotes do not match, each line becomes a row, without cells if it cannot be split.
    """
    csv.field_size_limit(max(MAX_CELL, csv.field_size_limit()))
    taken: list[str] = []  # the lines of the current row

    def remember(line: str) -> str:
        taken.append(line)
        return line

    reader = csv.reader(map(remember, lines), delimiter=delimiter, strict=True)
    start = 1
    while True:
        try:
            rows = [next(reader)]
        except StopIteration:
            return
        except csv.Error:  # an open quote may have taken whole rows along
            rows = [_split_line(line, delimiter) for line in taken]
        yield from ((start + i, row) for i, row in enumerate(rows) if row or len(rows) > 1)
        start += len(taken)
        taken.clear()


def _split_line(line: str, delimiter: str) -> list[str]:
    """The cells of one line: by its quotes, or else at each delimiter, with quotes as plain characters."""
    with suppress(csv.Error):
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    safe = delimiter in "\t|" or line.count('"') % 2 == 0  # otherwise a part of a row of several lines
    return line.rstrip("\r\n").split(delimiter) if safe else []


def _kinds(rows: list[list[str]], options: SourceOptions) -> list[str]:
    """For each column of a table without a header: its modality, "caption" for texts, or "" for numbers."""
    count = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    kinds = []
    for column in zip(*(row for row in rows if len(row) == count), strict=True):
        found = {options.modality_of(PurePath(COMMENT_NUMBER.sub("", cell.strip())).suffix) for cell in column}
        texts = "" if all(cell.strip().isdigit() for cell in column) else "caption"
        kinds.append((found.pop() if len(found) == 1 else None) or texts)
    return kinds


def _value(cell: str) -> Any:
    """A cell, or the list that it holds as JSON."""
    with suppress(ValueError, RecursionError):
        return json.loads(cell) if cell.startswith('["') else cell
    return cell
