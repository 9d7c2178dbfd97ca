"""Text files with one text per line, for models without other modalities."""

from collections.abc import Iterator
from pathlib import Path

from multimodal.datasets.sample import Entry, Source
from multimodal.datasets.sources.record import MAX_RECORD_BYTES, SampleError, SourceOptions, make_entry
from multimodal.results import Rejected


class LinesReader:
    """Each line of a `.txt` file is a sample named `FILE:LINE`; blank lines are skipped."""

    expects = "a .txt file with one text per line"

    def recognises(self, path: Path) -> bool:
        return path.suffix.lower() == ".txt" and not path.is_dir()

    def read(self, path: Path, options: SourceOptions) -> Source:
        entries: list[Entry] = []
        rejected: list[Rejected] = []
        for name, line in numbered_lines(path):
            try:
                if isinstance(line, SampleError):
                    raise line
                text = line.decode("utf-8-sig", "surrogateescape")
                entries.append(make_entry(name, {}, {"text": text}, options))
            except SampleError as error:
                rejected.append(Rejected(name, str(error)))
        return Source(path, entries, rejected)


def numbered_lines(path: Path) -> Iterator[tuple[str, bytes | SampleError]]:
    """`FILE:LINE` and contents of each line that is not blank, or a SampleError for a line too long."""
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
                yield name, line
