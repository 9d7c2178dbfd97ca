"""Text files with one text per line, for models without other modalities."""

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from multimodal.datasets.sample import Source
from multimodal.datasets.sources.record import MAX_RECORD_BYTES, SourceOptions, make_entry
from multimodal.results import Rejected

HIGH = re.compile(rb"[\x80-\xff]")
UTF8_LETTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


class LinesReader:
    """Each line of a `.txt` file is a sample named `FILE:LINE`; blank lines are skipped."""

    expects = "a .txt file with one text per line"

    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".txt" and not path.is_dir()

    def read(self, path: Path, options: SourceOptions) -> Source:
        source = Source(path)
        for name, line in numbered_lines(source):
            with source.rejecting(name):
                source.entries.append(make_entry(name, {}, {"text": line}, options))
        return source


def numbered_lines(source: Source) -> Iterator[tuple[str, str]]:
    """`FILE:LINE` and contents of each line that is not blank. Lines that are too long are rejected."""
    for number, line in enumerate(read_lines(source.path), 1):
        name = f"{source.path.name}:{number}"
        if len(line) > MAX_RECORD_BYTES:
            source.rejected.append(Rejected(name, f"the line is longer than {MAX_RECORD_BYTES} characters"))
        elif line.strip():
            yield name, line.removeprefix("\ufeff")


def read_lines(path: Path) -> Iterable[str]:
    """The lines of a text file in UTF-8, UTF-16 or Windows-1252 (Latin-1), with their ends.

    Damaged bytes in UTF-8 become lone surrogates.
    Raises ValueError for other encodings, in which most letters are beyond ASCII.
    """
    data = path.read_bytes()
    encoding = "utf-8-sig"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]:
        encoding = {0: "utf-16-be", 1: "utf-16-le"}.get(data[:2].find(0), "utf-16")
    else:
        high, stray = (len(HIGH.findall(part)) for part in (data, UTF8_LETTER.sub(b"", data)))
        if 4 * stray > high:  # it is not UTF-8 with a few damaged bytes
            encoding = "cp1252"
            if 4 * high > len(data):
                raise ValueError(f"{path}: expected text in UTF-8, UTF-16 or Windows-1252, got another encoding")
    return io.StringIO(data.decode(encoding, "surrogateescape"), newline="")
