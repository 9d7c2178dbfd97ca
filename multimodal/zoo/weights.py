"""Find and read the weights of checkpoints of unknown origin: safetensors, shards of them, and `torch.save`."""

import hashlib
import json
import math
import mmap
import os
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from multimodal.files import local_path, printable, sha256_of
from multimodal.zoo.pickles import TABLE, CheckpointError, Places, Record, Skipped, read_legacy, read_zip

SUFFIXES: tuple[str, ...] = tuple(TABLE["suffixes"])
INDEX = "model.safetensors.index.json"  # lists the shards that transformers writes
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FILES = ("model.safetensors", INDEX, *OPEN_CLIP_FILES, "pytorch_model.bin")  # pickles come last
TRAINING_FILES = re.compile(r"optim|scheduler|training_args|rng_state|random_states|scaler")  # not of the model
# Keys under which training scripts save the weights, the preferred ones first; averaged weights (EMA) come last
WRAPPERS: list[str] = TABLE["wrappers"]
MAX_WRAPPERS = 4  # around each other
MAX_OTHERS = 20  # keys of tables of any other name that are searched for weights
# What wrappers put before the names: before all of them, and anywhere
PREFIXES: list[str] = TABLE["prefixes"]
INNER_PREFIXES = re.compile(rf"(?:(?<=\.)|^)(?:{'|'.join(TABLE['inner_prefixes'])})\.")
DESCRIPTION = ("input_resolution", "context_length", "vocab_size")  # of the model, in OpenAI's state dicts
AVERAGED = "n_averaged"  # a count that torch.optim.swa_utils.AveragedModel keeps beside its module
MAX_HEADER_BYTES = 2_000_000  # of a safetensors file: 20 thousand tensors
MAX_JSON_BYTES = 4_000_000  # the largest are our own config.json files, with golden vectors and card
MAX_EXPANSION = 4  # bytes of all tensors per byte of the file; tied weights appear under several names
MAX_REASON = 240  # characters of an error message that quotes a file or a library


def read_weights(path: str | Path, *, sha256: str | None = None, exact: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name, on the CPU; for a training state, the tensors of the model.

    path: a `.safetensors` file, a file that `torch.save` wrote (`.bin`, `.pt`, `.pth`, `.ckpt`), or the index
        of the shards that transformers writes.
    sha256: the expected `weights_sha256(path)`, compared before anything is parsed.
    exact: keep the names as they are. By default, what wrappers put before them is removed: `_orig_mod.` of
        torch.compile and the like anywhere, `module.` and `model.` where all names share them.

    Nothing in the file is executed, and what a training script saved beside the weights is skipped. Tensors may be
    views of the memory-mapped file, so the file must not change; writing to a tensor does not change the file.
    Raises CheckpointError if the weights are anything but plain tensors, FileNotFoundError if there is no file.
    """
    path = local_path(path)
    if sha256 is not None and (got := weights_sha256(path)) != sha256:
        raise CheckpointError(f"{path}: expected sha256 {sha256}, got {got}")
    if path.name != INDEX:
        _check_regular(path)
        with wrap_errors(path):
            weights = _read_file(path)
            return weights if exact else _unwrapped(weights)
    weights = {}
    for name, expected in _list_shards(path).items():
        shard = read_weights(path.parent / name, exact=True)
        if set(shard) != expected:
            missing, spare = sorted(expected - set(shard))[:5], sorted(set(shard) - expected)[:5]
            where = f"{path.parent / name}: expected the tensors that the index lists"
            raise CheckpointError(f"{where}, got {missing} missing, {spare} spare")
        weights |= shard
    return weights if exact else _unwrapped(weights)


def weights_sha256(path: str | Path) -> str:
    """The sha256 of a weights file; for a shard index, of the sorted lines "NAME SHA256" of all shards."""
    path = local_path(path)
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
    """The weights file of a model folder, or the index of its shards: the best of `weights_order`, or the only file of
    weights. Raises FileNotFoundError if there is none, or if there are several others."""
    folder = local_path(folder)
    names = os.listdir(folder) if folder.is_dir() else []
    order = weights_order(names)
    for name in order:
        if name in names:
            return folder / name
    others = [name for name in sorted(names) if Path(name).suffix in SUFFIXES and not TRAINING_FILES.search(name)]
    if len(others) == 1:
        return folder / others[0]
    expected = f"a folder with one of {', '.join(order)}, or with one other file of weights"
    raise FileNotFoundError(f"{folder}: expected {expected}, got {others[:5] or 'none'}")


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
        else:
            text = f"damaged or not supported: {type(error).__name__}: {error}"
        line = printable(" ".join(text[: 2 * MAX_REASON].split()))
        raise CheckpointError(f"{what}: {line if len(line) <= MAX_REASON else f'{line[:MAX_REASON]}...'}") from error


def _read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file. CheckpointError if reading it could harm the process."""
    from safetensors.torch import load_file

    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(f"expected a file of {', '.join(SUFFIXES)}, got {suffix or 'no suffix'}")
    with path.open("rb") as file:
        head = file.read(20)
        file.seek(0)
        if suffix != ".safetensors":
            value, places = read_zip(file) if head.startswith(b"PK\x03\x04") else read_legacy(file)
            return _map_tensors(_find_state_dict(value), places, file)
    if int.from_bytes(head[:8], "little") > MAX_HEADER_BYTES:  # the library parses up to 100 MB, into gigabytes
        raise CheckpointError(f"expected a safetensors header of at most {MAX_HEADER_BYTES} bytes, got {head!r} ...")
    return {name: _aligned(tensor) for name, tensor in load_file(path).items()}


def _find_state_dict(value: Any) -> dict[str, Any]:
    """The state dict that `value` is or wraps."""
    for _ in range(MAX_WRAPPERS):
        if not isinstance(value, dict):
            raise CheckpointError(f"expected a dict of tensors, such as a state_dict(), got {_kind(value)}")
        tables = [key for key, each in value.items() if isinstance(each, dict)]
        keys = sorted((key for key in WRAPPERS if key in tables), key=lambda key: not _has_tensors(value[key]))
        if not keys and not _has_tensors(value):
            keys = [key for key in tables[:MAX_OTHERS] if _has_tensors(value[key])]
        if not keys or (len(keys) > 1 and keys[0] not in WRAPPERS):
            break
        value = value[keys[0]]
    return value


def _has_tensors(table: Mapping[Any, Any]) -> bool:
    return any(isinstance(each, Record) for each in table.values())


def _kind(value: Any) -> str:
    return value.name if isinstance(value, Skipped) else type(value).__name__


def _map_tensors(table: Mapping[Any, Any], places: Places, file: IO[bytes]) -> dict[str, Tensor]:
    """The tensors of a state dict, in the memory-mapped file.

    CheckpointError for a value that is no tensor, and if copies of the tensors would take more than the file.
    """
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if sum(size for _, size in places.values()) > len(mapped):
        raise CheckpointError("damaged: the storages are larger than the file")
    storages: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    size = 0
    for name, record in table.items():
        if name in DESCRIPTION and isinstance(record, int):
            tensors[name] = torch.tensor(record)
            continue
        if name is None or not isinstance(record, Record):
            got = "other keys than strings" if name is None else f"{_kind(record)} under {name!r}"
            raise CheckpointError(f"expected tensors by name, got {got}")
        size += math.prod(record.size) * record.dtype.itemsize
        if size > MAX_EXPANSION * len(mapped):
            got = f"{name!r} of shape {record.size} in a file of {len(mapped)} bytes"
            raise CheckpointError(f"expected tensors of at most {MAX_EXPANSION} times the file, got {got}")
        if record.key not in storages:
            start, length = places[record.key]
            count = length // record.dtype.itemsize
            numbers = (
                torch.frombuffer(mapped, dtype=record.dtype, count=count, offset=start) if count else torch.empty(0)
            )
            storages[record.key] = _aligned(numbers)
        tensors[name] = storages[record.key].as_strided(record.size, record.stride, record.offset)
    return tensors


def _unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names that they have in the model itself."""
    names = {name: INNER_PREFIXES.sub("", name) for name in weights if name != AVERAGED}
    while prefix := next((p for p in PREFIXES if names and all(n.startswith(p) for n in names.values())), None):
        names = {name: inner.removeprefix(prefix) for name, inner in names.items()}
    if len(set(names.values())) != len(names):
        raise CheckpointError(f"expected tensors with different names, got the same after removing {INNER_PREFIXES}")
    return {inner: weights[name] for name, inner in names.items()}


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
