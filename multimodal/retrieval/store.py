"""Vectors of files in one SQLite file.

    meta    key, value: fingerprint, dim and model (a display name) of the space, and the folder
    files   path, size, mtime_ns, sha256, vector (float32, little endian), crc (of path and vector)

Paths are relative to the folder and written with `/`, so that a folder can move with its vectors; the folder
itself is an absolute path. Thanks to SQLite's rollback journal and one transaction per update, the file reopens in
the state before or after an update, whenever the process is killed. The index is always this single file.
"""

import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from multimodal.files import printable

APPLICATION_ID = 0x6D6D6978  # "mmix", in the header of the file: distinguishes it from other SQLite files
SCHEMA_VERSION = 1
UNWRITABLE = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL, crc INTEGER NOT NULL, vector BLOB NOT NULL);
"""


@dataclass(frozen=True)
class EmbeddingSpace:
    """The space of the vectors. Vectors of equal spaces can be compared, whatever the name of the model."""

    fingerprint: str
    dim: int
    model: str = field(compare=False)  # display name

    def __str__(self) -> str:
        return f"{self.model} (fingerprint {self.fingerprint[:12]}, {self.dim} dimensions)"


class Entry(NamedTuple):
    """A file at the time its vector was computed. `path` is relative to the folder of the store."""

    path: str
    size: int  # bytes
    mtime_ns: int
    sha256: str


class Store(AbstractContextManager["Store", None]):
    """An index file, opened; a context manager. Thread-safe.

    Raises FileNotFoundError, and ValueError for a file that is not an index or has another version of the format.
    Every method raises ValueError if the file is damaged or the store is closed, and OSError for errors of the disk.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.name = Path(path), printable(str(path))
        if not self.path.exists():
            raise FileNotFoundError(f"path: expected an index, got {self.name}, which does not exist")
        if not self.path.is_file():
            raise ValueError(f"path: expected an index, got {self.name}, which is not a file")
        self._lock = threading.RLock()
        with reported(self.path), ExitStack() as opened:
            self._connection = opened.enter_context(closing(_connect(self.path, "rw")))
            self.space, self.folder = self._read_meta()
            opened.pop_all()  # it stays open

    @classmethod
    def create(cls, path: str | Path, space: EmbeddingSpace, folder: str | Path) -> "Store":
        """Create an empty store. Raises FileExistsError unless `path` is free or an empty file.

        SQLite writes through a symbolic link, and lets one of several processes create the file in one transaction; a
        process that is killed meanwhile leaves a file which counts as empty.
        """
        path = Path(os.path.realpath(path))
        taken = FileExistsError(printable(f"path: expected a new file, got {path}, which exists already"))
        journal = path.with_name(f"{path.name}-journal")  # of an unfinished transaction, which the next one takes back
        if path.exists() and (not path.is_file() or (path.stat().st_size and not journal.exists())):
            raise taken
        meta = vars(space) | {"folder": to_column(Path(folder).absolute())}
        path.parent.mkdir(parents=True, exist_ok=True)
        with reported(path), closing(_connect(path, "rwc")) as connection, connection:
            connection.execute("BEGIN EXCLUSIVE")
            if connection.execute("PRAGMA schema_version").fetchone()[0]:  # another process was first
                raise taken
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        return cls(path)

    def _read_meta(self) -> tuple[EmbeddingSpace, Path]:
        """The space and the folder of an index, after a check that the file is one."""
        connection = self._connection
        connection.execute("PRAGMA synchronous = FULL")
        [application] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise ValueError(f"{self.name}: expected an index, got another SQLite file")
        if version != SCHEMA_VERSION:
            got = f"got {version}: index again, into a new file"
            raise ValueError(f"{self.name}: expected index format {SCHEMA_VERSION}, {got}")
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        connection.execute("SELECT count(*) FROM files").fetchone()
        try:
            space = EmbeddingSpace(meta["fingerprint"], int(meta["dim"]), meta["model"])
            return space, Path(from_column(meta["folder"]))
        except (KeyError, ValueError, TypeError) as error:
            reason = f"its description is incomplete ({error!r})"
            raise ValueError(f"{self.name}: expected an index, got a damaged one: {reason}") from None

    def __len__(self) -> int:
        with self._using() as connection:
            return int(connection.execute("SELECT count(*) FROM files").fetchone()[0])

    def entries(self) -> dict[str, Entry]:
        """The entries of all files by path, without reading the vectors."""
        with self._using() as connection:
            rows = connection.execute("SELECT path, size, mtime_ns, sha256 FROM files")
            entries = [Entry(from_column(path), *rest) for path, *rest in rows]
        return {entry.path: entry for entry in entries}

    def vectors(self) -> tuple[list[str], Tensor]:
        """All paths in sorted order and their vectors, float32 [N, D].

        Raises ValueError if a vector differs from what was written.
        """
        with self._using() as connection:  # one state for both reads
            paths = sorted(from_column(row[0]) for row in connection.execute("SELECT path FROM files"))
            place = {path: i for i, path in enumerate(paths)}
            matrix = np.empty((len(paths), self.space.dim), dtype="<f4")
            for column, vector, crc in connection.execute("SELECT path, vector, crc FROM files"):
                path = from_column(column)
                if path not in place or not _intact(path, vector, crc):
                    raise ValueError(
                        f"{self.name}: expected the vector of {printable(path)} as it was written, got a damaged one"
                    )
                matrix[place[path]] = np.frombuffer(vector, dtype="<f4")
            return paths, torch.from_numpy(matrix.astype(np.float32, copy=False))

    def update(
        self,
        put: Iterable[tuple[Entry, Tensor]] = (),
        copy: Iterable[tuple[Entry, str]] = (),
        remove: Iterable[str] = (),
    ) -> None:
        """Change the store in one transaction.

        `put` writes entries with their vectors [D], `copy` writes entries with the stored vector of a path (another
        one, or their own), `remove` drops paths. Raises ValueError for a vector of another width or with values that
        are not finite, and OSError for an index that cannot be written, unless there is nothing to write.
        """
        written: list[tuple[Entry, bytes]] = []
        for entry, vector in put:
            if vector.shape != (self.space.dim,) or not vector.isfinite().all():
                got = f"{list(vector.shape)}, {int(vector.isfinite().sum())} of them finite"
                raise ValueError(
                    f"vector of {printable(entry.path)}: expected {self.space.dim} finite values, got {got}"
                )
            written.append((entry, vector.detach().cpu().float().numpy().astype("<f4").tobytes()))
        copy, remove = list(copy), list(remove)
        if not (written or copy or remove):
            return
        with self._using("IMMEDIATE") as connection:
            for entry, other in copy:
                found = connection.execute(
                    "SELECT vector, crc FROM files WHERE path = ? AND sha256 = ?", (to_column(other), entry.sha256)
                ).fetchone()
                if found is None or not _intact(other, *found):
                    wanted = f"{other} in {self.path}, undamaged and with the contents of {entry.path}"
                    raise ValueError(printable(f"copy: expected {wanted}, got none"))
                written.append((entry, found[0]))
            connection.executemany(
                "INSERT OR REPLACE INTO files (path, size, mtime_ns, sha256, crc, vector) VALUES (?, ?, ?, ?, ?, ?)",
                ((to_column(e.path), *e[1:], _crc(e.path, data), data) for e, data in written),
            )
            connection.executemany("DELETE FROM files WHERE path = ?", [(to_column(path),) for path in remove])

    def move(self, folder: str | Path) -> None:
        """Record a new place of the folder, which this store uses even if it cannot write it."""
        self.folder = Path(folder).absolute()
        with self._using("IMMEDIATE") as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'folder'", (to_column(self.folder),))

    def version(self) -> tuple[int, int]:
        """Changes whenever the contents do, through this store or through another process."""
        with self._using() as connection:
            return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _using(self, kind: str = "DEFERRED") -> Iterator[sqlite3.Connection]:
        """The connection, locked, in a transaction of this kind: committed, or rolled back after an error."""
        with self._lock, reported(self.path), self._connection as connection:
            connection.execute(f"BEGIN {kind}")
            yield connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,  # transactions begin explicitly
        timeout=30,  # seconds to wait for another process
        check_same_thread=False,  # a store has a lock
    )


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """SQLite's errors as OSError for the disk and for locks, and ValueError for the contents or a closed store."""
    name = printable(str(path))
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise ValueError(f"{name}: expected an open index, got: {error}") from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        # The one operational error that is about the contents: the file has other tables than an index.
        if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
            needs = " (changes need a writable file and folder)" if code in UNWRITABLE else ""
            raise OSError(f"{name}: {error}{needs}") from error
        raise ValueError(f"{name}: expected an index, got another file or a damaged one: {error}") from error
    except UnicodeDecodeError as error:  # SQLite quotes the damaged text
        raise ValueError(f"{name}: expected an index, got a damaged one: its text is not UTF-8") from error


def to_column(path: str | Path) -> str | bytes:
    """TEXT, or BLOB for a file name that is not valid text."""
    try:
        str(path).encode()
        return str(path)
    except UnicodeEncodeError:
        return os.fsencode(path)


def from_column(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def _intact(path: str, vector: Any, crc: Any) -> bool:
    return isinstance(vector, bytes) and crc == _crc(path, vector)


def _crc(path: str, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(os.fsencode(path)))
