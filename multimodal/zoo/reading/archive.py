"""The zip that `torch.save` writes: plain files side by side in one folder, nothing compressed.

Whatever else a zip may hold is refused, so that all readers find the same bytes under the same names and
reading takes no more memory than the file does.
"""

import stat
import struct
import zipfile
from typing import IO, NamedTuple

from multimodal.zoo.reading.refusal import WeightsError

MAX_DIRECTORY_BYTES = 1_000_000  # of the list of the entries: 15 thousand
# APPNOTE.TXT 4.3: the head of an entry; the end of the zip; for large ones a longer end, and where it is
LOCAL = struct.Struct("<4s5H3L2H")
END = struct.Struct("<4s4H2LH")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64 = struct.Struct("<4sLQL")


class Record(NamedTuple):
    """The bytes of an entry in the file."""

    start: int
    size: int


def list_records(file: IO[bytes]) -> dict[str, Record]:
    """What lies in the archive, by name inside its folder: `data.pkl`, `data/0`, ...

    Raises WeightsError for entries that are compressed, encrypted, links, twice there, over one another or
    elsewhere, and for TorchScript.
    """
    end = _directory_start(file)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    root = entries[0].filename.split("/")[0] if entries else ""
    for entry in entries:
        problem = _problem(entry, root)
        if problem is not None:
            raise WeightsError(f"expected plain files in one folder, got {entry.orig_filename!r}: {problem}")
    names = {entry.filename.lower() for entry in entries}  # torch looks names up in either case
    if len(names) != len(entries):
        raise WeightsError(f"expected {len(entries)} entries of different names, got {len(names)}")
    if f"{root}/constants.pkl" in names or any(name.startswith(f"{root}/code/") for name in names):
        raise WeightsError("expected a state dict, got TorchScript: save its state_dict() to use it here")
    records = {}
    at = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < at:
            raise WeightsError(f"expected entries side by side, got {entry.filename!r} inside another")
        start = _data_start(file, entry)
        records[entry.filename.removeprefix(f"{root}/")] = Record(start, entry.file_size)
        at = start + entry.file_size
    if at > end:
        raise WeightsError(f"expected entries up to byte {end}, got one up to {at}")
    return records


def _directory_start(file: IO[bytes]) -> int:
    """Where the list of the entries starts. It and its end must close the file: no second end to find."""
    at = file.seek(0, 2) - END.size
    mark, *_, size, start, comment = END.unpack(_bytes_at(file, at, END.size))
    if mark != b"PK\x05\x06" or comment:
        raise WeightsError("expected a zip up to the last byte, got something after it: cut off or changed")
    mark, _, at_64, _ = LOCATOR_64.unpack(_bytes_at(file, at - LOCATOR_64.size, LOCATOR_64.size))
    if mark == b"PK\x06\x07":
        at -= LOCATOR_64.size + END_64.size
        mark, *_, size_64, start_64 = END_64.unpack(_bytes_at(file, at, END_64.size))
        if mark != b"PK\x06\x06" or at_64 != at or size not in (size_64, 2**32 - 1):
            raise WeightsError(f"expected the zip's longer end at byte {at}, got another")
        size, start = size_64, start_64
    if start + size != at or size > MAX_DIRECTORY_BYTES:
        raise WeightsError(
            f"expected a zip's list of at most {MAX_DIRECTORY_BYTES} bytes up to byte {at}, got {size} from {start}"
        )
    return start


def _problem(entry: zipfile.ZipInfo, root: str) -> str | None:
    """Why this is not a plain file in the folder of the archive, if it is not."""
    name = entry.orig_filename
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        return f"compressed, {entry.file_size} bytes in {entry.compress_size}"
    if entry.flag_bits & 1:
        return "encrypted"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a link"
    parts = name.split("/")
    if name != entry.filename or not name.isascii() or "\\" in name or ".." in parts or parts[0] in ("", "."):
        return "its name leads outside"
    if parts[0] != root:
        return f"not in {root!r}"
    return None


def _data_start(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    mark, *_, name, extra = LOCAL.unpack(_bytes_at(file, entry.header_offset, LOCAL.size))
    if mark != b"PK\x03\x04" or file.read(name) != entry.filename.encode():
        raise WeightsError(f"expected {entry.filename!r} at byte {entry.header_offset}, got something else")
    return entry.header_offset + LOCAL.size + name + extra


def _bytes_at(file: IO[bytes], at: int, size: int) -> bytes:
    file.seek(max(at, 0))
    return file.read(size)
