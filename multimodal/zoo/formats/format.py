"""The contract of a checkpoint format, and the registry of formats."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from multimodal.config import Registry
from multimodal.preprocess.preprocessor import Preprocessor
from multimodal.zoo.weights import OPEN_CLIP_CONFIG, CheckpointError, read_json, weights_sha256

CONFIG = "config.json"  # of this package and of transformers


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in the terms of this package, before a model is built from it.

    config: of a registered kind of model. weights: on the CPU, by the names of the parameters of that model.
    inputs: by modality. sha256: of the file with the weights, or of all its shards.
    """

    name: str
    config: Any
    weights: dict[str, Tensor]
    inputs: dict[str, Preprocessor]
    card: dict[str, Any]
    sha256: str


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


def refuse_tokenizer(path: Path, tokenizer: Path | None) -> None:
    """Raise ValueError for a tokenizer from elsewhere, for folders that have their own."""
    if tokenizer is not None:
        raise ValueError(f"tokenizer: expected None, because {path} has its own, got {tokenizer}")


def third_party(
    library: str, name: str, path: Path, config: Any, weights: dict[str, Tensor], inputs: dict[str, Any]
) -> Checkpoint:
    """A converted checkpoint, with a card that says where its weights come from. path: the file with the weights"""
    sha256 = weights_sha256(path)
    card = {"about": f"A checkpoint of {library}.", "weights": {"file": path.name, "sha256": sha256}}
    return Checkpoint(name, config, weights, inputs, card, sha256)
