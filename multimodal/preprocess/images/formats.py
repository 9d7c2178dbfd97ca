"""The image formats by file name and by first bytes, from formats.json, and files without their metadata."""

import json
import os
import re
import stat
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

# Sections "readable", "unreadable" and "other" (no image): name -> suffixes, a pattern that the first bytes match, and
# a pattern that the chunks or tags match which are needed for the pixels and the orientation.
TABLE: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
FORMATS = tuple(TABLE["readable"])  # Pillow's names; JPEG includes MPO, HEIF needs pillow-heif
IMAGE_SUFFIXES, UNREADABLE_SUFFIXES = (
    tuple(suffix for entry in TABLE[section].values() for suffix in entry["suffixes"].split())
    for section in ("readable", "unreadable")
)
HEAD_BYTES = 512  # of a file, sufficient to know its format
_STARTS = [(section, name, each["start"]) for section in TABLE for name, each in TABLE[section].items()]
_START = re.compile("|".join(f"({start})" for *_, start in _STARTS).encode("latin-1"), re.DOTALL)
_CHUNKS = {"PNG": (8, ">I", 12), "JPEG": (2, ">2xH", 2), "WEBP": (12, "<4xI", 8)}  # first, length, other bytes of each


def file_format(data: bytes) -> tuple[str, str]:
    """The section of the table and the name of the format of a file, by its first bytes."""
    match = _START.match(data[:HEAD_BYTES])
    assert match is not None  # the last pattern is empty
    assert match.lastindex is not None
    return _STARTS[match.lastindex - 1][:2]


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an image, readable or not, by its suffix or else by its first bytes."""
    if os.fspath(path).lower().endswith(IMAGE_SUFFIXES + UNREADABLE_SUFFIXES):
        return True
    with suppress(OSError):
        if stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
            with open(path, "rb", buffering=0) as file:
                return file_format(file.read(HEAD_BYTES))[0] in ("readable", "unreadable")
    return False


def without_metadata(data: bytes) -> bytes:
    """A PNG, JPEG, WebP or TIFF file without what its pixels and orientation do not need; other files as they are.

    Pillow gives up on some files with damaged or large metadata. Raises struct.error for damage.
    """
    name = file_format(data)[1]
    needed = re.compile(TABLE["readable"].get(name, {}).get("needed", "").encode("latin-1"), re.DOTALL)
    if name == "TIFF":
        return _with_tags(data, needed)
    place, layout, overhead = _CHUNKS.get(name, (len(data), "", 0))
    kept = [data[:place]]
    while place + 8 <= len(data) and not data.startswith(b"\xff\xda", place):  # in JPEG, the start of the scan
        [length] = struct.unpack_from(layout, data, place)
        chunk = data[place : place + overhead + length + (length % 2 if name == "WEBP" else 0)]
        place += max(1, len(chunk))
        optional = name == "PNG" and chunk[4:5].islower()
        intact = not optional or struct.pack(">I", zlib.crc32(chunk[4:-4])) == chunk[-4:]
        if needed.match(chunk) and intact and len(chunk) >= overhead + length:
            kept.append(chunk)
    if name == "WEBP":
        kept[0] = b"RIFF" + struct.pack("<I", 4 + sum(map(len, kept[1:]))) + b"WEBP"
    return b"".join(kept) + (data[place:] if name == "JPEG" else b"")


def _with_tags(data: bytes, needed: re.Pattern[bytes]) -> bytes:
    """A TIFF file with only those entries (tag, type, count) of its first directory that match, and no second one."""
    order = "<" if data.startswith(b"II") else ">"
    [start] = struct.unpack_from(order + "I", data, 4)
    [count] = struct.unpack_from(order + "H", data, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    kept = [data[p : p + 12] for p in places if needed.match(b"%d %d %d " % struct.unpack_from(order + "HHI", data, p))]
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + bytes(4)
    return data[:start] + directory + data[start + len(directory) :]
