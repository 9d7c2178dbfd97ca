"""Tar shards in the webdataset layout: `KEY.jpg` beside `KEY.json`, `KEY.txt` or `KEY.cls`, read in place.

Nothing is extracted to disk and nothing is unpickled. `tarfile` parses each header, but iterating over a
`TarFile`, even with `ignore_zeros=True`, skips damaged headers silently and ends at the first size that reaches
past the end; so `walk` calls the parser at each header itself, reports damage and searches on.
"""

import bz2
import gzip
import io
import lzma
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from multimodal.datasets.sample import Entry, SampleError, Source
from multimodal.datasets.sources.record import NAMES, SourceOptions, make_entry, read_record
from multimodal.datasets.sources.registry import visible
from multimodal.files import printable
from multimodal.results import Rejected

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
BLOCK = 512
BUFFER = 128 * BLOCK
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
MAX_INPUT_BYTES = 64 * 2**20  # of one image or other input
MAX_UNPACKED_BYTES = 4 * 2**30  # of one compressed shard, which is held in memory
MAX_HEADER_BYTES = 64 * 2**10  # of a long name or a pax header


class TarReader:
    """A shard, compressed or not (TAR_SUFFIXES), or a folder of shards. Samples are named `SHARD/KEY`.

    Each key needs a file of each modality, by its last suffix, and captions: in its `.json`, such as `captions` (a
    list), `caption` or `text`, or in a `.txt`, `.caption` or `.text`; a label (`.cls`, or `label` in the JSON) is
    optional. A key ends at the first dot of a name, or, if two of its files have the same suffix, at the last dot
    before words like `input` and `output`. Unusable keys are in `.rejected`.
    """

    expects = "a .tar shard (or .tar.gz, .tar.bz2, .tar.xz, .tar.zst), or a folder of shards"

    def recognises(self, path: Path) -> bool:
        return bool(visible(path, TAR_SUFFIXES))

    def read(self, path: Path, options: SourceOptions) -> Source:
        source = Source(path)
        for file in visible(path, TAR_SUFFIXES) or [path]:
            with source.rejecting(file.name):
                _index(Shard(file), options, source)
        return source


class Shard:
    """Random access to the bytes of a tar, compressed or not.

    A plain tar is opened for each read, so that threads and forked workers can share it without a descriptor.
    Compressed files do not support random access: such a shard is held in memory (decompress large data sets).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: str | None = None  # why the end is missing
        with open(path, "rb") as file:
            start = file.read(6)
        self.packed = next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)
        self._data = None if self.packed is None else self._decompress()
        if not self._data and path.suffix.lower() == ".tar":  # a damaged first block may look like gzip
            self._data = self.error = None
        self.size = path.stat().st_size if self._data is None else len(self._data)

    def open(self) -> io.BufferedReader | io.BytesIO:
        return open(self.path, "rb") if self._data is None else io.BytesIO(self._data)

    def _decompress(self) -> bytes:
        """The compressed stream up to its end or the first damage, which goes to `error`. Raises SampleError."""
        data = bytearray()
        openers: dict[str, Callable[[Path], Any]] = {
            "gzip": gzip.open,
            "bzip2": bz2.open,
            "xz": lzma.open,
            "zstd": _zstd,
        }
        with openers[str(self.packed)](self.path) as stream:
            try:
                while piece := stream.read1(BLOCK):
                    data += piece
                    if len(data) > MAX_UNPACKED_BYTES:
                        self.error = f"unpacks to more than {MAX_UNPACKED_BYTES} bytes; decompress it to read it"
                        break
            except Exception as error:  # EOFError, OSError, and each format has one of its own
                self.error = f"the {self.packed} stream is damaged after {len(data)} bytes ({error})"
        return bytes(data)


def _zstd(path: Path) -> Any:
    try:
        import zstandard
    except ImportError:
        raise SampleError("expected the package zstandard, which reads .zst, got none") from None
    return zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), read_across_frames=True)


OPENERS: dict[str, Callable[[Path], Any]] = {
    "gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open, "zstd": _zstd
}  # fmt: skip


class _HeaderFile(io.BufferedReader):
    """A shard as `tarfile` reads its headers: a damaged size must not read gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, MAX_HEADER_BYTES) if size is not None and size >= 0 else 0)


class Member(NamedTuple):
    """A regular file in a shard."""

    shard: Shard
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        with self.shard.open() as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.shard.path} has become shorter since it was indexed")
        return data


def _index(shard: Shard, options: SourceOptions, source: Source) -> None:
    """Append the samples of one shard to `source.entries` and everything unusable to `source.rejected`."""
    groups: dict[str, list[tuple[str, Member]]] = {}  # by the name up to its first dot: kinds and members
    for member in walk(shard, source.rejected):
        path = PurePosixPath(member.name)
        stem, _, _ = path.name.partition(".")
        kind = options.modality_of(path.suffix) or path.suffix.lower()
        groups.setdefault(str(path.with_name(stem) if stem else path), []).append((kind, member))
    if shard.error is not None:
        source.rejected.append(Rejected(shard.path.name, shard.error))
    for group, members in groups.items():
        alone = max(Counter(kind for kind, _ in members).values()) == 1
        keys: dict[str, dict[str, Member]] = {}
        second: dict[str, str] = {}
        for kind, member in members:
            name = f"{shard.path.name}/{group if alone else _key(member.name)}"
            if keys.setdefault(name, {}).setdefault(kind, member) != member:
                second.setdefault(name, PurePosixPath(member.name).suffix.lower())
        source.rejected += (Rejected(name, f"a second {kind}; the first is kept") for name, kind in second.items())
        for name, files in keys.items():
            with source.rejecting(name):
                source.entries.append(_entry(name, files, options))


def walk(shard: Shard, rejected: list[Rejected]) -> Iterator[Member]:
    """The regular files of a shard in order; everything else goes to `rejected`, and the walk goes on."""
    lost, ended = False, False
    empty = io.BytesIO(bytes(BLOCK))  # opening reads the first header, which may be damaged in the shard
    with _HeaderFile(shard.open(), BUFFER) as file, tarfile.open(fileobj=empty, mode="r:", encoding="utf-8") as archive:
        archive.fileobj, archive.offset = file, 0
        while (start := archive.offset) + BLOCK <= shard.size:
            file.seek(start)
            try:
                header = tarfile.TarInfo.fromtarfile(archive)
            except Exception as error:  # tarfile raises nearly anything on damaged headers
                file.seek(start)
                ended = not file.read(BLOCK).strip(b"\0")  # goes on: archives may be concatenated
                archive.offset = start + BLOCK
                if not ended and not lost:
                    rejected.append(Rejected(f"{shard.path.name}@{start}", f"damaged header ({error}); searched on"))
                lost = lost or not ended
                continue
            size, data, name = header.size, header.offset_data, printable(header.name)
            ended, lost = False, not header.issparse() and not 0 <= size <= shard.size - data
            # An untrustworthy size must not skip anything, and nothing may lead backwards.
            archive.offset = data if lost else max(archive.offset, data)
            problem = f"its size, {size} bytes, reaches past the end" if lost else _problem(header)
            if problem is not None:
                rejected.append(Rejected(f"{shard.path.name}/{name}", problem))
            elif header.isreg():
                yield Member(shard, name, data, size)
    if not ended and not lost and shard.error is None:
        rejected.append(Rejected(shard.path.name, "it has no end mark: it was cut off, samples may be missing"))


def _problem(header: tarfile.TarInfo) -> str | None:
    """Why this member is not a plain file inside the shard; None also for folders, which hold no sample."""
    if header.issym() or header.islnk():
        return f"a link to {header.linkname!r}, not a file"
    if header.isdir():
        return None
    if header.issparse():
        return "a sparse file, which is not supported"
    if not header.isreg():
        return f"not a file (tar type {header.type!r})"
    path = PurePosixPath(header.name)
    if not path.name:
        return "it has no name"
    if path.is_absolute() or ".." in path.parts:
        return "its name leads outside the shard"
    return None


def _entry(name: str, members: dict[str, Member], options: SourceOptions) -> Entry:
    for modality in options.suffixes:
        if modality not in members:
            found = ", ".join(sorted(each or "no suffix" for each in members))
            raise SampleError(f"it has no {modality} (found: {found})")
        if not 0 < (size := members[modality].size) <= MAX_INPUT_BYTES:
            raise SampleError(f"its {modality} has {size} bytes, expected 1 to {MAX_INPUT_BYTES}")
    inputs = {modality: members[modality] for modality in options.suffixes}
    return make_entry(name, inputs, read_record(members), options)


def _key(name: str) -> str:
    """`a/b.c.jpg` -> `a/b.c`, and `a/b.c.input.jpg` as well: the words for what a file is do not belong to the key."""
    path = PurePosixPath(name)
    stem = path.with_suffix("")
    return str(stem.with_suffix("") if stem.suffix[1:].lower() in NAMES["roles"] else stem)
