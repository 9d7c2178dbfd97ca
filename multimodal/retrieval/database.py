"""SQLite as the store wants it: connections, transactions, errors in our words, file names as columns."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DISK = {
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
            check_same_thread=False,  # the store has its lock
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
    """SQLite's errors in our words: OSError for the disk and for locks, ValueError for the contents."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DISK:
            raise OSError(f"{path}: {error}") from error
        raise ValueError(f"{path} is not an image index, or it is damaged: {error}") from error
    except UnicodeDecodeError as error:  # SQLite quoted the damage
        raise ValueError(f"{path} is damaged: its text is not UTF-8") from error


def to_column(path: str) -> Any:
    """TEXT, or BLOB for a file name that is not text (any bytes but `/` may stand in one)."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return os.fsencode(path)


def from_column(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
