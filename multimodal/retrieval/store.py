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
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.files import atomic_write

APPLICATION_ID = 0x6D6D6978  # "mmix", in the header of the file: distinguishes it from other SQLite files
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL, crc INTEGER NOT NULL, vector BLOB NOT NULL);
"""
DISK_ERRORS = {
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
}


@dataclass(frozen=True)
class EmbeddingSpace:
    """The space of the vectors: two indexes can be compared only if fingerprint and dim are equal."""

    fingerprint: str
    dim: int
    model: str  # display name

    def __str__(self) -> str:
        return f"{self.model} (fingerprint {self.fingerprint[:12]}, {self.dim} dimensions)"


@dataclass(frozen=True)
class Entry:
    """A file at the time its vector was computed. `path` is relative to the folder of the store."""

    path: str
    size: int  # bytes
    mtime_ns: int
    sha256: str


class Store(AbstractContextManager["Store", None]):
    """An open index file; a context manager. Thread-safe.

    Made by `Store.create(path, space, folder)` and `Store.open(path)`. Every method raises ValueError if the file is
    damaged or the store is closed, and OSError for errors of the disk.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, space: EmbeddingSpace, folder: Path) -> None:
        self.path = path
        self.space = space
        self.folder = folder
        self._connection: sqlite3.Connection | None = connection
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: str | Path, space: EmbeddingSpace, folder: str | Path) -> "Store":
        """Create an empty store, atomically. Raises FileExistsError unless `path` is free or an empty file."""
        path = Path(path)
        if path.exists() and (not path.is_file() or path.stat().st_size):
            raise FileExistsError(f"path: expected a new file, got {path}, which exists already")
        meta = {
            "fingerprint": space.fingerprint,
            "dim": str(space.dim),
            "model": space.model,
            "folder": to_column(str(Path(folder).absolute())),
        }
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(SCHEMA)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.commit()
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            with atomic_write(path) as file:
                file.write(connection.serialize())
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open an existing store.

        Raises FileNotFoundError, and ValueError for a file that is not an index, is damaged or has another version
        of the format.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"path: expected an index, got {path}, which does not exist")
        if not path.is_file():
            raise ValueError(f"path: expected an index, got {path}, which is not a file")
        with reported(path):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,  # transactions begin where `_using` is asked for one
                timeout=30,  # seconds to wait for another process
                check_same_thread=False,  # the store has a lock
            )
        try:
            with reported(path):
                return cls(path, connection, *_read_meta(path, connection))
        except BaseException:
            connection.close()
            raise

    def __len__(self) -> int:
        with self._using() as connection:
            return int(connection.execute("SELECT count(*) FROM files").fetchone()[0])

    def entries(self) -> dict[str, Entry]:
        """The entries of all files by path, without reading the vectors."""
        with self._using() as connection:
            rows = connection.execute("SELECT path, size, mtime_ns, sha256 FROM files").fetchall()
            return {from_column(row[0]): Entry(from_column(row[0]), *row[1:]) for row in rows}

    def vectors(self) -> tuple[list[str], Tensor]:
        """All paths in sorted order and their vectors, float32 [N, D].

        Raises ValueError if a vector differs from what was written.
        """
        with self._using("DEFERRED") as connection:  # one state for both reads
            paths = sorted(from_column(row[0]) for row in connection.execute("SELECT path FROM files"))
            place = {path: i for i, path in enumerate(paths)}
            matrix = np.empty((len(paths), self.space.dim), dtype="<f4")
            for column, vector, crc in connection.execute("SELECT path, vector, crc FROM files"):
                path = from_column(column)
                if path not in place or not isinstance(vector, bytes) or crc != _crc(path, vector):
                    raise ValueError(f"{self.path}: expected the vector of {path} as it was written, got a damaged one")
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
        are not finite.
        """
        written = [_row(entry, vector, self.space.dim) for entry, vector in put]
        with self._using("IMMEDIATE") as connection:
            for entry, other in copy:
                found = connection.execute(
                    "SELECT vector FROM files WHERE path = ? AND sha256 = ?", (to_column(other), entry.sha256)
                ).fetchone()
                if found is None:
                    raise ValueError(
                        f"copy: expected {other} in {self.path} with the contents of {entry.path}, got none"
                    )
                written.append(_row(entry, found[0], self.space.dim))
            connection.executemany(
                "INSERT OR REPLACE INTO files (path, size, mtime_ns, sha256, crc, vector) VALUES (?, ?, ?, ?, ?, ?)",
                written,
            )
            connection.executemany("DELETE FROM files WHERE path = ?", [(to_column(path),) for path in remove])

    def move(self, folder: str | Path) -> None:
        """Record a new place of the folder."""
        folder = Path(folder).absolute()
        with self._using("IMMEDIATE") as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'folder'", (to_column(str(folder)),))
        self.folder = folder

    def version(self) -> tuple[int, int]:
        """Changes whenever the contents do, through this store or through another process."""
        with self._using() as connection:
            return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _using(self, transaction: str | None = None) -> Iterator[sqlite3.Connection]:
        """The connection, locked; with "DEFERRED" or "IMMEDIATE" in a transaction of that kind."""
        with self._lock:
            if self._connection is None:
                raise ValueError(f"{self.path}: expected an open index, got a closed one")
            with reported(self.path), self._connection as connection:  # commits, or rolls back after an error
                if transaction is not None:
                    connection.execute(f"BEGIN {transaction}")
                yield connection


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """SQLite's errors as OSError for the disk and for locks, and ValueError for the contents."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DISK_ERRORS:
            raise OSError(f"{path}: {error}") from error
        raise ValueError(f"{path}: expected an index, got another file or a damaged one: {error}") from error
    except UnicodeDecodeError as error:  # SQLite quotes the damaged text
        raise ValueError(f"{path}: expected an index, got a damaged one: its text is not UTF-8") from error


def _read_meta(path: Path, connection: sqlite3.Connection) -> tuple[EmbeddingSpace, Path]:
    """The space and the folder of an index, after a check that the file is one."""
    connection.execute("PRAGMA synchronous = FULL")
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise ValueError(f"{path}: expected an index, got another SQLite file")
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path}: expected index format {SCHEMA_VERSION}, got {version}: index again, into a new file")
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    connection.execute("SELECT count(*) FROM files").fetchone()
    try:
        space = EmbeddingSpace(meta["fingerprint"], int(meta["dim"]), meta["model"])
        return space, Path(from_column(meta["folder"]))
    except (KeyError, ValueError, TypeError) as error:
        reason = f"its description is incomplete ({error!r})"
        raise ValueError(f"{path}: expected an index, got a damaged one: {reason}") from None


def to_column(path: str) -> str | bytes:
    """TEXT, or BLOB for a file name that is not valid text."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return os.fsencode(path)


def from_column(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def _row(entry: Entry, vector: Tensor | bytes, dim: int) -> tuple[Any, ...]:
    if isinstance(vector, Tensor):
        if vector.shape != (dim,) or not vector.isfinite().all():
            got = f"{list(vector.shape)}, {int(vector.isfinite().sum())} of them finite"
            raise ValueError(f"vector of {entry.path}: expected {dim} finite values, got {got}")
        vector = vector.detach().cpu().float().numpy().astype("<f4").tobytes()
    return (to_column(entry.path), entry.size, entry.mtime_ns, entry.sha256, _crc(entry.path, vector), vector)


def _crc(path: str, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(os.fsencode(path)))
