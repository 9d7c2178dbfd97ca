"""Text files with one text per line, for models without other modalities."""

from collections.abc import Iterator
from pathlib import Path

from multimodal.datasets.sample import Source
from multimodal.datasets.sources.record import MAX_RECORD_BYTES, SourceOptions, make_entry
from multimodal.results import Rejected


class LinesReader:
    """Each line of a `.txt` file is a sample named `FILE:LINE`; blank lines are skipped."""

    expects = "a .txt file with one text per line"

    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".txt" and not path.is_dir()

    def read(self, path: Path, options: SourceOptions) -> Source:
        source = Source(path)
        for name, line in numbered_lines(source):
            with source.rejecting(name):
                text = line.decode("utf-8-sig", "surrogateescape")
                source.entries.append(make_entry(name, {}, {"text": text}, options))
        return source


def numbered_lines(source: Source) -> Iterator[tuple[str, bytes]]:
    """`FILE:LINE` and contents of each line that is not blank. Lines that are too long are rejected."""
    with open(source.path, "rb") as file:
        number = 0
        while line := file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            name = f"{source.path.name}:{number}"
            if len(line) > MAX_RECORD_BYTES:
                while not line.endswith(b"\n") and (line := file.readline(MAX_RECORD_BYTES)):
                    pass
                source.rejected.append(Rejected(name, f"the line is longer than {MAX_RECORD_BYTES} bytes"))
            elif line.strip():
                yield name, line
