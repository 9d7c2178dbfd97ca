"""SQLite for the store: connections, transactions, errors as ours, file names as columns."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DISK_ERRORS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}


def connect(path: Path) -> sqlite3.Connection:
    with reported(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,  # transactions are written out below
            timeout=30,  # seconds to wait for another process
            check_same_thread=False,  # the store has a lock
        )
        connection.execute("PRAGMA synchronous = FULL")
        return connection


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


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


def to_column(path: str) -> Any:
    """TEXT, or BLOB for a file name that is not valid text."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return os.fsencode(path)


def from_column(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
