"""Tar shards in the webdataset layout: `KEY.jpg` beside `KEY.json` (or `KEY.txt`), read in place.

Nothing is extracted to disk and nothing is unpickled. A damaged shard loses what is damaged, by name, and no
more: Python's `tarfile` takes a broken header for the end of the archive, the walk below looks for the next
good one.
"""

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

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
from multimodal.preprocess import IMAGE_SUFFIXES, clean_caption, printable
from multimodal.results import Rejected

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
BLOCK = 512
WINDOW = 128 * BLOCK
ABOUT_THE_NEXT = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
MAX_IMAGE_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 4 * 2**30  # of one compressed shard, which is held in memory
MAX_NAME_BYTES = 64 * 2**10  # of a long-name or pax header


class Shard:
    """Random access to the bytes of a tar, whatever it is stored as.

    A plain tar is opened for each read, so threads and forked workers can share it and it holds no
    descriptor. A gzip stream cannot be read at random: it is decompressed into memory (gunzip large sets).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: str | None = None  # why the end is missing
        self._data: bytearray | None = None
        with open(path, "rb") as file:
            if file.read(2) == b"\x1f\x8b":
                self._data = self._decompress()
            self.size = file.seek(0, 2) if self._data is None else len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only where the shard ends."""
        if self._data is not None:
            return bytes(self._data[offset : offset + size])
        with open(self.path, "rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(size)
            while len(data) < size and (more := file.read(size - len(data))):
                data += more
        return data

    def _decompress(self) -> bytearray:
        """Everything that can be had from the gzip stream; `error` says why it ends early, if it does."""
        data = bytearray()
        stream = zlib.decompressobj(wbits=31)
        with open(self.path, "rb") as file:
            while piece := file.read(BLOCK):  # small pieces: an error loses what its piece would have given
                try:
                    if stream.eof:  # gzip files may follow one another, and zeros may pad the last
                        piece = (stream.unused_data + piece).lstrip(b"\0")
                        if not piece:
                            continue
                        stream = zlib.decompressobj(wbits=31)
                    data += stream.decompress(piece)
                except zlib.error as error:
                    self.error = f"the gzip stream is damaged after {len(data)} bytes ({error})"
                    return data
                if len(data) > MAX_UNPACKED_BYTES:
                    self.error = (
                        f"unpacks to more than {MAX_UNPACKED_BYTES} bytes; gunzip it to read it in place"
                    )
                    return data
        if not stream.eof:
            self.error = f"the gzip stream breaks off after {len(data)} bytes"
        return data


@dataclass(frozen=True, slots=True)
class Extent:
    """A member's bytes inside its shard."""

    shard: Shard = field(repr=False)
    offset: int
    size: int

    def read(self) -> bytes:
        data = self.shard.read(self.offset, self.size)
        if len(data) < self.size:
            raise OSError(f"{self.shard.path} has become shorter since it was indexed")
        return data


class Member(NamedTuple):
    """A regular file in a shard."""

    name: str
    extent: Extent


def read_tar(
    path: str | Path | Sequence[str | Path],
    templates: Sequence[str] | None = None,
    root: str | Path | None = None,
) -> Source:
    """Index one shard or several (`.tar`, `.tar.gz`, `.tgz`). Samples are named `SHARD/KEY`.

    Each key needs an image and captions: `captions` (list) or `caption` in its JSON, or a `.txt`; `label` is
    optional. `templates` make captions for samples that only have a label. What cannot be used is in
    `.rejected`.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(item) for item in path]
    entries: list[Entry] = []
    rejected: list[Rejected] = []
    for item in paths:
        index_shard(item, templates, entries, rejected)
    return Source(root if root is not None else paths[0], entries, rejected)


def index_shard(
    path: Path, templates: Sequence[str] | None, entries: list[Entry], rejected: list[Rejected]
) -> None:
    """Append the samples of one shard to `entries`, and what cannot be used to `rejected`."""
    try:
        shard = Shard(path)
    except OSError as error:
        rejected.append(Rejected(path.name, f"cannot be opened: {error.strerror or error}"))
        return
    keys: dict[str, dict[str, Extent]] = {}
    repeated: set[str] = set()
    for found in walk(shard):
        if isinstance(found, Rejected):
            rejected.append(found)
            continue
        key, suffix = _split(found.name)
        parts = keys.setdefault(key, {})
        slot = "image" if suffix in IMAGE_SUFFIXES else suffix
        if slot not in parts:
            parts[slot] = found.extent
        elif key not in repeated:
            repeated.add(key)
            rejected.append(Rejected(f"{path.name}/{key}", f"a second {suffix}; the first is kept"))
    if shard.error is not None:
        rejected.append(Rejected(path.name, shard.error))
    for key, parts in keys.items():
        try:
            entries.append(_entry(f"{path.name}/{key}", parts, templates))
        except SampleError as error:
            rejected.append(Rejected(f"{path.name}/{key}", str(error)))


def walk(shard: Shard) -> Iterator[Member | Rejected]:
    """The regular files of a shard in order; what else is met comes as a Rejected, and the walk goes on."""
    offset, lost, ended = 0, False, False
    window, window_start = b"", 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    while offset + BLOCK <= shard.size:
        if offset + BLOCK > window_start + len(window):
            window, window_start = shard.read(offset, WINDOW), offset
        block = window[offset - window_start : offset - window_start + BLOCK]
        start, offset = offset, offset + BLOCK
        ended = not block.strip(b"\0")
        if ended:
            continue  # archives may have been joined, so it need not be the end of everything
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if not lost:
                yield Rejected(f"{shard.path.name}@{start}", f"damaged header ({error}); searched on")
            lost, long_name, pax = True, None, {}
            continue
        size = header.size
        special = header.type in ABOUT_THE_NEXT
        name = long_name or pax.get("path") or header.name
        if not special and "size" in pax:
            size = int(pax["size"]) if pax["size"].isdecimal() and len(pax["size"]) < 20 else -1
        if not 0 <= size <= shard.size - offset or (special and size > MAX_NAME_BYTES):
            yield Rejected(_named(shard, name), f"its size, {size} bytes, reaches past the end of the shard")
            lost, long_name, pax = True, None, {}
            continue  # the size cannot be trusted: look for the next header block by block
        lost = False
        data = Extent(shard, offset, size)
        if special or header.isreg() or header.type not in tarfile.SUPPORTED_TYPES:
            offset += -(-size // BLOCK) * BLOCK
        if header.type == tarfile.GNUTYPE_LONGNAME:
            long_name = data.read().rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif header.type == tarfile.XHDTYPE:
            pax = _pax(data.read())
        elif not special:
            problem = _problem(header, name, pax)
            if problem is not None:
                yield Rejected(_named(shard, name), problem)
            elif header.isreg():
                yield Member(printable(name), data)
            long_name, pax = None, {}
    if not ended and not lost and shard.error is None:
        yield Rejected(shard.path.name, "it has no end mark: it was cut off, samples may be missing")


def _problem(header: tarfile.TarInfo, name: str, pax: dict[str, str]) -> str | None:
    """Why this member is not a plain file inside the shard, if it is not. Folders are no problem."""
    if header.issym() or header.islnk():
        return f"a link to {header.linkname!r}, not a file"
    if header.isdir():
        return None
    if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in pax):
        return "a sparse file, which is not read"
    if not header.isreg():
        return f"not a file (tar type {header.type!r})"
    if not PurePosixPath(name).name:
        return "it has no name"
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return "its name leads outside the shard"
    return None


def _entry(name: str, parts: dict[str, Extent], templates: Sequence[str] | None) -> Entry:
    image = parts.get("image")
    if image is None:
        found = ", ".join(sorted(part or "no suffix" for part in parts))
        raise SampleError(f"it has no image (found: {found})")
    if not 0 < image.size <= MAX_IMAGE_BYTES:
        raise SampleError(f"its image has {image.size} bytes, expected 1 to {MAX_IMAGE_BYTES}")
    captions: tuple[str, ...] = ()
    label = None
    if ".json" in parts:
        record = parse_record(_record_bytes(parts[".json"]))
        captions, label = captions_of(record), label_of(record)
    if not captions and ".txt" in parts:
        try:
            text = clean_caption(_record_bytes(parts[".txt"]).decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise SampleError("its txt is not UTF-8") from None
        captions = (text,) if text else ()
    return make_entry(name, image, captions, label, templates)


def _record_bytes(extent: Extent) -> bytes:
    if extent.size > MAX_RECORD_BYTES:
        raise SampleError(f"its json or txt has {extent.size} bytes, at most {MAX_RECORD_BYTES} are read")
    return extent.read()


def _split(name: str) -> tuple[str, str]:
    """`a/b.c.jpg` -> (`a/b`, `.c.jpg`): the webdataset rule, a key ends at the first dot of the file name."""
    path = PurePosixPath(name)
    stem, dot, suffix = path.name.partition(".")
    if not stem:  # a dot-file keeps its name
        stem, dot, suffix = path.name, "", ""
    return str(path.with_name(stem)), (dot + suffix).lower()


def _named(shard: Shard, name: str) -> str:
    return f"{shard.path.name}/{printable(name)}"


def _pax(data: bytes) -> dict[str, str]:
    """The records `LENGTH KEY=VALUE\\n` of a pax header; a broken one ends the list."""
    records: dict[str, str] = {}
    while data:
        digits, _, _ = data.partition(b" ")
        if not digits.isdigit() or len(digits) > 9 or not len(digits) < int(digits) <= len(data):
            break
        key, _, value = data[len(digits) + 1 : int(digits) - 1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(digits) :]
    return records
