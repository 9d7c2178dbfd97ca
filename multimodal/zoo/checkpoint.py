"""A checkpoint in the terms of this package, before a model is built from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from multimodal.preprocess.preprocessor import Preprocessor
from multimodal.zoo.weights import CheckpointError, reason, weights_sha256


@dataclass(frozen=True)
class Checkpoint:
    """What every format opens, see `formats.Format`.

    config: of a registered kind of model. weights: on the CPU, by the names of the parameters of that model.
    inputs: by modality. sha256: of the file with the weights, or of all its shards.
    """

    name: str
    config: Any
    weights: dict[str, Tensor]
    inputs: dict[str, Preprocessor]
    card: dict[str, Any]
    sha256: str


def third_party(
    library: str, name: str, path: Path, config: Any, weights: dict[str, Tensor], inputs: dict[str, Any]
) -> Checkpoint:
    """A converted checkpoint, with a card that says where its weights come from. path: the file with the weights"""
    sha256 = weights_sha256(path)
    card = {"about": f"A checkpoint of {library}.", "weights": {"file": path.name, "sha256": sha256}}
    return Checkpoint(name, config, weights, inputs, card, sha256)


@contextmanager
def wrap_errors(what: str, passed: type[Exception] = OSError) -> Iterator[None]:
    """Whatever libraries raise over the contents of a checkpoint becomes a CheckpointError of one line, "WHAT: reason".

    Errors of the file system, missing packages and the type `passed` are raised as they are.
    """
    try:
        yield
    except (OSError, ImportError, passed):
        raise
    except Exception as error:
        told = CheckpointError(str(error)) if isinstance(error, ValueError) else error  # ours need no comment
        raise CheckpointError(f"{what}: {reason(told)}") from error
