"""The contract of everything that turns raw input of one modality into tensors, and the registry of its kinds."""

import hashlib
import json
import os
import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import torch
from torch import Tensor

from multimodal.config import Registry
from multimodal.files import atomic_write, local_path, printable

MAX_BYTES = 2**28  # of a file, 268 MB


class InputError(ValueError):
    """An input that cannot be used. The message is a short reason, in which names are `printable`."""

    def __str__(self) -> str:
        return printable(super().__str__())

    @classmethod
    def not_found(cls, message: str) -> "InputError":
        """The error for a path that does not exist: an instance of this class that is also a FileNotFoundError."""
        return type("NotFoundError", (cls, FileNotFoundError), {})(message)  # type: ignore[no-any-return]


def plain_source(source: Any) -> Any:
    """The path, bytes or array that `source` stands for, which may be

    - a path that begins with `~` or `file://`, or a `data:` URI
    - an open binary file or any other object with `read`, such as BytesIO; it is read from its start
    - a dict of "bytes" and "path" as in Hugging Face datasets; the bytes take precedence

    Anything else is returned as it is. Raises ValueError for a URL, or OSError if the file cannot be read.
    """
    if isinstance(source, Mapping) and source.keys() <= {"bytes", "path"}:
        source = source.get("path") if source.get("bytes") is None else source["bytes"]
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if text[:5].lower() == "data:":
            head, _, body = text.partition(",")
            data = unquote_to_bytes(body)
            return b64decode(data + b"==") if head.endswith("base64") else data  # excess padding is ignored
        if re.match(r"(?!file:)[a-zA-Z][\w+.-]+://", text):
            raise ValueError(f"expected a local file, got the URL {text[:80]}: download it first")
        return local_path(text) if text.startswith(("~", "file://")) and not os.path.lexists(text) else source
    if hasattr(source, "read"):
        file = getattr(source, "buffer", source)  # of a file in text mode
        if getattr(file, "seekable", bool)():
            file.seek(0)
        source = file.read(MAX_BYTES + 1)
        if not isinstance(source, bytes):
            raise ValueError(f"expected a binary file, got one of {type(source).__name__}")
    return source


class Preprocessor(Protocol):
    """Raw input of one modality to tensors: `ImageTransform`, `Tokenizer`, or one registered from outside.

    Subclasses inherit `accepts`, `collate`, `files` and `fingerprint`; any other class with these attributes is one
    as well.

    modality: "image", "text", or any other name; it keys the encoders of a network and the fields of a batch.
    suffixes: the file name suffixes that belong to the modality, lower case with the dot; () for text.
    item_ndim: dimensions of one item given as an array, such as 3 for images; an array with one more is a batch.
    """

    modality: str
    suffixes: tuple[str, ...]
    item_ndim: int

    @property
    def error(self) -> type[InputError]:
        """The type of error that `read` raises: InputError or a subclass."""

    def accepts(self, path: str) -> bool:
        """Whether a file found in a folder belongs to the modality, readable or not: by default, by its suffix."""
        return path.lower().endswith(self.suffixes)

    def read(self, source: Any) -> Tensor:
        """One item, from anything a user may pass: a path, bytes, an array, a string. Raises `error`."""

    def collate(self, items: list[Tensor]) -> Tensor:
        """A batch [B, ...] of items from `read`."""
        return torch.stack(items)

    def to_dict(self) -> dict[str, Any]:
        """The table from which `load_preprocessor` builds an equal one; its `kind` is the registered name."""

    def files(self) -> Mapping[str, bytes]:
        """The files to save beside the table, by name; empty if the table is sufficient."""
        return {}

    @property
    def fingerprint(self) -> str:
        """Equal for preprocessors that return equal tensors: the sha256 of the table with sorted keys."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


# A builder takes the config and the folder that contains the files of the preprocessor.
PREPROCESSORS: Registry[Preprocessor] = Registry("preprocessor")


def save_preprocessor(preprocessor: Preprocessor, folder: str | Path) -> None:
    """Write the files of a preprocessor to `folder`. Its `to_dict()` belongs in the config.json there."""
    for name, data in preprocessor.files().items():
        with atomic_write(Path(folder) / name) as file:
            file.write(data)


def load_preprocessor(table: dict[str, Any], folder: str | Path, where: str = "inputs") -> Preprocessor:
    """Build the preprocessor described by `table`, a `to_dict()`, from its files in `folder`.

    Raises ValueError if the preprocessor does not match the table, FileNotFoundError if a file is missing.
    """
    preprocessor = PREPROCESSORS.build(PREPROCESSORS.from_dict(table, where), Path(folder))
    if preprocessor.to_dict() != table:
        raise ValueError(f"{where}: expected {table}, got {preprocessor.to_dict()}")
    return preprocessor
