"""The contract of everything that turns raw input of one modality into tensors, and the registry of its kinds."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from multimodal.config import Registry
from multimodal.files import atomic_write


class InputError(ValueError):
    """An input that cannot be used. The message is a short reason."""

    @classmethod
    def not_found(cls, message: str) -> "InputError":
        """The error for a path that does not exist: an instance of this class that is also a FileNotFoundError."""
        return type("NotFoundError", (cls, FileNotFoundError), {})(message)  # type: ignore[no-any-return]


class Preprocessor(Protocol):
    """Raw input of one modality to tensors: `ImageTransform`, `Tokenizer`, or one registered from outside.

    Subclasses inherit `collate`, `files` and `fingerprint`; any other class with these attributes is one as well.

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
