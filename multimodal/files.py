"""Paths that users write, atomic writes, and hashes of files."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user means: `~` stands for the home folder, and a file:// URI for the file that it names."""
    text = os.fspath(path)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    return Path(os.path.expanduser(text))


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` if the block ends without an error.

    The bytes are written to a temporary file in the same folder, flushed to the disk and renamed to `path`: a reader
    sees the old file or the new one, never a part of it. Missing folders are created. A symbolic link keeps pointing
    to its file, which is replaced. Raises ValueError if `path` is a folder, a device or a pipe.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "device or pipe"
        raise ValueError(f"{path}: expected a regular file or a new one, got a {kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp creates private files
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, in lower-case hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clear_leftovers(folder: str | Path) -> None:
    """Remove the temporary files and folders of killed writers from `folder`; no other process may be writing there."""
    for path in Path(folder).glob(".*.????????.tmp"):  # as `atomic_write` names them
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def printable(text: str) -> str:
    """`text` with line breaks, terminal codes and undecodable bytes, as file names may hold, escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
