"""Weights from files of any origin: nothing in them is run, and what is not plain tensors is refused."""

import hashlib
import os
import stat
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from multimodal.zoo.reading.pickled import read_pickled
from multimodal.zoo.reading.refusal import WeightsError, reason
from multimodal.zoo.reading.safetensor import MAX_HEADER_BYTES, parse_json, read_safetensors

READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": read_safetensors,
    **dict.fromkeys((".bin", ".pt", ".pth", ".ckpt"), read_pickled),
}
INDEX = "model.safetensors.index.json"  # of the shards that transformers writes
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FILES = ("model.safetensors", INDEX, *OPEN_CLIP_FILES, "pytorch_model.bin")  # pickles where nothing is better
WRAPPERS = ("state_dict", "model", "model_state_dict")  # under which training scripts put the weights


def read_weights(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU; of a training state those of the model.

    path: `.safetensors`, or what `torch.save` wrote (`.bin`, `.pt`, `.pth`, `.ckpt`), or a link to one; or the
        list of the shards that transformers writes.
    sha256: what the file must hash to, in lowercase hexadecimal, before anything in it is looked at.

    Names lose the `module.` of DataParallel where all have it. The tensors may be views of the file, so it
    must stay as it is; writing to them does not change it. Raises WeightsError, a ValueError that names the
    file, for whatever is not plain tensors, and FileNotFoundError where there is no file.
    """
    path = Path(path)
    if path.name == INDEX:
        return _read_shards(path)
    with _naming(path):
        _check_regular(path)
        if path.suffix.lower() not in READERS:
            raise WeightsError(f"expected a file of {', '.join(READERS)}, got {path.suffix or 'no suffix'}")
        if sha256 is not None:
            with path.open("rb") as file:
                got = hashlib.file_digest(file, "sha256").hexdigest()
            if got != sha256:
                raise WeightsError(f"expected sha256 {sha256}, got {got}")
        return plain_tensors(READERS[path.suffix.lower()](path))


def order(names: Container[str]) -> tuple[str, ...]:
    """The files of weights that a folder with `names` may have, in the order in which they are looked for.

    Beside a config of open_clip those of open_clip come first: under the common names there may be the same
    model in the format of transformers, or one tower in that of timm.
    """
    return tuple(dict.fromkeys((*OPEN_CLIP_FILES, *FILES))) if OPEN_CLIP_CONFIG in names else FILES


def find_weights(folder: str | Path) -> Path:
    """The file of a model folder that is read: its safest, or the list of its shards."""
    folder = Path(folder)
    names = os.listdir(folder) if folder.is_dir() else []
    for name in order(names):
        if name in names:
            return folder / name
    raise FileNotFoundError(f"{folder}: expected a folder with one of {', '.join(order(names))}, got none")


def shards_of(path: Path) -> list[Path]:
    """The files that a list of shards names; none for any other file."""
    if path.name != INDEX:
        return []
    with _naming(path):
        return [path.parent / name for name in _list_shards(path)]


def plain_tensors(value: object) -> dict[str, Tensor]:
    """The state dict that `value` is or wraps, once all in it is names and dense tensors on the CPU."""
    if not isinstance(value, dict):
        raise WeightsError(f"expected a dict of tensors, got {type(value).__name__}")
    table = next((value[name] for name in WRAPPERS if isinstance(value.get(name), dict)), value)
    weights = {}
    for name, tensor in table.items():
        if not isinstance(name, str):
            raise WeightsError(f"expected names of tensors, got {name!r}")
        if type(tensor) not in (Tensor, nn.Parameter):
            raise WeightsError(f"{name!r}: expected a tensor, got {type(tensor).__name__}")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            got = f"{tensor.layout}, {tensor.dtype}, on {tensor.device}"
            raise WeightsError(f"{name!r}: expected a dense tensor on the CPU, got {got}")
        weights[name] = tensor.detach()
    wrapped = all(name.startswith("module.") for name in weights)
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()} if wrapped else weights


def _read_shards(index: Path) -> dict[str, Tensor]:
    """All that the index lists, from files of which each holds what is listed and no more."""
    with _naming(index):
        _check_regular(index)
        shards = _list_shards(index)
    weights: dict[str, Tensor] = {}
    for name, expected in shards.items():
        shard = read_weights(index.parent / name)
        if set(shard) != expected:
            missing, spare = sorted(expected - set(shard)), sorted(set(shard) - expected)
            raise WeightsError(
                f"{index.parent / name}: expected the tensors that the index lists, got {missing[:5]} missing, "
                f"{spare[:5]} spare"
            )
        weights |= shard
    return weights


def _list_shards(index: Path) -> dict[str, set[str]]:
    """Which tensors are in which file beside the index."""
    if index.stat().st_size > MAX_HEADER_BYTES:
        raise WeightsError(f"expected at most {MAX_HEADER_BYTES} bytes, got {index.stat().st_size}")
    table = parse_json(index.read_bytes()).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise WeightsError(f"expected weight_map, a file name for each tensor, got {type(table).__name__}")
    folder = index.parent.resolve()
    homes = [folder]
    if folder.parent.name == "snapshots":  # of the hub's cache, where files are links to those in blobs
        homes.append(folder.parents[1] / "blobs")
    shards: dict[str, set[str]] = {}
    for key, name in table.items():
        shards.setdefault(name, set()).add(key)
    for name in shards:
        plain = name.isprintable() and "\\" not in name and Path(name).name == name
        if not plain or Path(name).suffix != ".safetensors" or (folder / name).resolve().parent not in homes:
            raise WeightsError(f"expected .safetensors files beside the index, got {name!r}")
    return shards


def _check_regular(path: Path) -> None:
    """Opening a pipe would wait for a writer."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise WeightsError(f"expected a regular file, got {what}")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name the file; torch, zipfile and safetensors raise nearly anything on damaged ones."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: expected a checkpoint, got no such file") from error
    except Exception as error:
        raise WeightsError(f"{path}: {reason(error)}") from error
