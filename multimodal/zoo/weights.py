"""Find and read the weights of checkpoints of unknown origin: safetensors, shards of them, and `torch.save`."""

import hashlib
import json
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from multimodal.files import printable, sha256_of
from multimodal.zoo.pickles import legacy_problem, zip_problem

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
INDEX = "model.safetensors.index.json"  # lists the shards that transformers writes
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FILES = ("model.safetensors", INDEX, *OPEN_CLIP_FILES, "pytorch_model.bin")  # pickles come last
WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which training scripts save the weights
MAX_HEADER_BYTES = 2_000_000  # of a safetensors file: 20 thousand tensors
MAX_JSON_BYTES = 4_000_000  # the largest are our own config.json files, with golden vectors and card
MAX_EXPANSION = 4  # bytes of all tensors per byte of the file; tied weights appear under several names
MAX_REASON = 240  # characters of an error message that quotes a file or a library


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one line that names the file."""


def read_weights(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name, on the CPU; for a training state, the tensors of the model.

    path: a `.safetensors` file, a file that `torch.save` wrote (`.bin`, `.pt`, `.pth`, `.ckpt`), or the index
        of the shards that transformers writes.
    sha256: the expected `weights_sha256(path)`, compared before anything is parsed.

    A `module.` prefix that all names share is removed. Nothing in the file is executed. Tensors may be views of
    the memory-mapped file, so the file must not change; writing to a tensor does not change the file.
    Raises CheckpointError if the file holds anything but plain tensors, FileNotFoundError if there is no file.
    """
    path = Path(path)
    if sha256 is not None and (got := weights_sha256(path)) != sha256:
        raise CheckpointError(f"{path}: expected sha256 {sha256}, got {got}")
    if path.name != INDEX:
        _check_regular(path)
        with wrap_errors(path):
            return _plain_tensors(_read_file(path), path.stat().st_size)
    weights: dict[str, Tensor] = {}
    for name, expected in _list_shards(path).items():
        shard = read_weights(path.parent / name)
        if set(shard) != expected:
            missing, spare = sorted(expected - set(shard))[:5], sorted(set(shard) - expected)[:5]
            where = f"{path.parent / name}: expected the tensors that the index lists"
            raise CheckpointError(f"{where}, got {missing} missing, {spare} spare")
        weights |= shard
    return weights


def weights_sha256(path: str | Path) -> str:
    """The sha256 of a weights file; for a shard index, of the sorted lines "NAME SHA256" of all shards."""
    path = Path(path)
    if path.name != INDEX:
        _check_regular(path)
        return sha256_of(path)
    lines = sorted(f"{shard.name} {weights_sha256(shard)}" for shard in shards_of(path))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def weights_order(names: Container[str]) -> tuple[str, ...]:
    """The weights files that a folder with the files `names` may have, the preferred ones first.

    Next to a config of open_clip, the files of open_clip are preferred: the common names may hold the same model
    in the format of transformers, or one tower in the format of timm.
    """
    return tuple(dict.fromkeys((*OPEN_CLIP_FILES, *FILES))) if OPEN_CLIP_CONFIG in names else FILES


def find_weights(folder: str | Path) -> Path:
    """The weights file of a model folder, or the index of its shards. FileNotFoundError if it has neither."""
    folder = Path(folder)
    names = os.listdir(folder) if folder.is_dir() else []
    order = weights_order(names)
    for name in order:
        if name in names:
            return folder / name
    raise FileNotFoundError(f"{folder}: expected a folder with one of {', '.join(order)}, got none")


def shards_of(path: Path) -> list[Path]:
    """The files that a shard index lists; empty for any other file."""
    return [path.parent / name for name in _list_shards(path)] if path.name == INDEX else []


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


@contextmanager
def wrap_errors(what: str | Path, *passed: type[Exception], plain: type[Exception] = CheckpointError) -> Iterator[None]:
    """Turn any error but those `passed` into a CheckpointError of one short line, "WHAT: reason".

    On damaged files, libraries raise nearly anything. plain: errors whose text needs no comment.
    """
    try:
        yield
    except passed:
        raise
    except Exception as error:
        if isinstance(error, plain):
            text = str(error)
        elif isinstance(error, MemoryError):
            text = "does not fit into memory"
        elif isinstance(error, OSError):
            text = f"cannot be read: {error.strerror or error}"
        elif isinstance(error, UnpicklingError):  # torch's message recommends to switch its protection off
            text = "damaged: torch.load(weights_only=True) refused it"
        else:
            text = f"damaged or not supported: {type(error).__name__}: {error}"
        line = printable(" ".join(text[: 2 * MAX_REASON].split()))
        raise CheckpointError(f"{what}: {line if len(line) <= MAX_REASON else f'{line[:MAX_REASON]}...'}") from error


def _read_file(path: Path) -> object:
    """What a weights file holds. CheckpointError if reading it could harm the process."""
    from safetensors.torch import load_file

    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(f"expected a file of {', '.join(SUFFIXES)}, got {suffix or 'no suffix'}")
    with path.open("rb") as file:
        head = file.read(20)
        zipped = head.startswith(b"PK\x03\x04")
        if suffix == ".safetensors":
            length = int.from_bytes(head[:8], "little")  # the library parses up to 100 MB, into gigabytes
            expected = f"a safetensors header of at most {MAX_HEADER_BYTES} bytes"
            problem = f"expected {expected}, got {head!r} ..." if length > MAX_HEADER_BYTES else None
        else:
            problem = zip_problem(file) if zipped else legacy_problem(file)
    if problem is not None:
        raise CheckpointError(problem)
    if suffix == ".safetensors":
        return load_file(path)
    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped)


def _plain_tensors(value: object, file_size: int) -> dict[str, Tensor]:
    """The state dict that `value` is or wraps. CheckpointError if copies of it would take more than the file."""
    if not isinstance(value, dict):
        raise CheckpointError(f"expected a dict of tensors, got {type(value).__name__}")
    table = next((value[key] for key in WRAPPERS if isinstance(value.get(key), dict)), value)
    size = 0
    for name, tensor in table.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"expected tensors by name, got {type(tensor).__name__} under {name!r}")
        size += tensor.numel() * tensor.element_size()
        if size > MAX_EXPANSION * file_size:
            got = f"{name!r} of shape {tuple(tensor.shape)} in a file of {file_size} bytes"
            raise CheckpointError(f"expected tensors of at most {MAX_EXPANSION} times the file, got {got}")
    prefix = "module." if all(name.startswith("module.") for name in table) else ""  # of DataParallel
    return {name.removeprefix(prefix): _aligned(tensor.detach()) for name, tensor in table.items()}


def _aligned(tensor: Tensor) -> Tensor:
    """Some writers leave tensors at odd addresses, at which not every kernel can read."""
    return tensor if tensor.data_ptr() % tensor.element_size() == 0 else tensor.clone()


def _list_shards(index: Path) -> dict[str, set[str]]:
    """The names of the tensors in each file that the index lists."""
    _check_regular(index)
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict):
        raise CheckpointError(f"{index}: expected a table weight_map, got none")
    shards: dict[str, set[str]] = {}
    for key, name in files.items():
        if not isinstance(name, str) or Path(name).name != name or Path(name).suffix != ".safetensors":
            raise CheckpointError(f"{index}: expected .safetensors files next to the index, got {name!r}")
        shards.setdefault(name, set()).add(key)
    return shards


def _check_regular(path: Path) -> None:
    """Refuse anything but a regular file: opening a pipe would wait for a writer."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a checkpoint, got no such file")
    if not path.is_file():
        what = "folder" if path.is_dir() else "device or pipe"
        raise CheckpointError(f"{path}: expected a regular file, got a {what}")
