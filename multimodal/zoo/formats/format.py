"""The contract of a checkpoint format, and the registry of formats."""

import json
from pathlib import Path
from typing import Any, Protocol

from multimodal.config import Registry
from multimodal.zoo.checkpoint import Checkpoint
from multimodal.zoo.weights import OPEN_CLIP_CONFIG, CheckpointError

CONFIG = "config.json"  # of this package and of transformers
MAX_JSON_BYTES = 4_000_000  # the largest are our own config.json files, with golden vectors and card


class Format(Protocol):
    """One way to store a model. `FORMATS.register("npz", NpzFormat())` makes `load` open it."""

    def recognises(self, path: Path) -> bool:
        """Whether the file or folder `path` is in this format."""

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        """Read config, preprocessors and weights. Nothing in them is trusted.

        tokenizer: a folder with the files of a tokenizer that are not beside the weights. Raises ValueError for
        contents that are damaged, unsupported or contradict each other.
        """


FORMATS: Registry[Format] = Registry("checkpoint format")


def recognise(path: Path) -> Format:
    """The format of a file or folder; formats that were registered later are tried first.

    Raises FileNotFoundError for a folder without a config, CheckpointError for an unknown format.
    """
    for _, format in reversed(FORMATS.items()):
        if format.recognises(path):
            return format
    expected = f"{path}: expected a checkpoint in one of the formats {FORMATS.names()}"
    if not path.is_dir():
        raise CheckpointError(
            f"{expected}, or an architecture of open_clip as the name with weights={str(path)!r}, got another file"
        )
    if not (path / CONFIG).is_file():
        names = sorted(each.name for each in path.iterdir())
        raise FileNotFoundError(f"{path}: expected a model folder with {CONFIG}, got {names[:8]}")
    table = read_json(path / CONFIG)
    got = {key: table[key] for key in ("format", "model_type") if key in table}
    raise CheckpointError(f"{expected}, got a {CONFIG} with {got or sorted(table)[:8]}")


def read_config(path: Path) -> dict[str, Any]:
    """The config.json by which a folder of this package or of transformers is recognised; empty for anything else.

    Folders of open_clip on the hub often have a config.json for another library, too.
    """
    return read_json(path / CONFIG, {}) if path.is_dir() and not (path / OPEN_CLIP_CONFIG).exists() else {}


def read_json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object. A missing file gives `default`. Raises CheckpointError for anything else."""
    if not path.is_file():
        if default is None:
            raise FileNotFoundError(f"{path.parent}: expected {path.name}, got no such file")
        return default
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"{path}: expected at most {MAX_JSON_BYTES} bytes, got {path.stat().st_size}")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(table).__name__}")
    return table


def refuse_tokenizer(path: Path, tokenizer: Path | None) -> None:
    """Raise ValueError for a tokenizer from elsewhere, for folders that have their own."""
    if tokenizer is not None:
        raise ValueError(f"tokenizer: expected None, because {path} has its own, got {tokenizer}")
