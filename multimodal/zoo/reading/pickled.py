"""Checkpoints of `torch.save`, of any origin: looked through first, then read with `weights_only=True`.

There are two formats. Since torch 1.6 a zip: `data.pkl`, a pickle in which tensors refer to storages by key,
and `data/KEY`, the storages. Before it five pickles in a row, of which the last two are the tensors and the
keys of the storages, then each storage after its length.
"""

import io
from pathlib import Path
from typing import IO

import torch
from torch.torch_version import TorchVersion

from multimodal.zoo.reading.archive import list_records
from multimodal.zoo.reading.opcodes import dry_run
from multimodal.zoo.reading.refusal import WeightsError, kind_of

# Before it, weights_only did not keep code from running: CVE-2025-32434 (< 2.6), CVE-2026-24747
MIN_TORCH = "2.10"
MAX_PICKLE_BYTES = 4_000_000  # the rest of a checkpoint is storages
ALIGNMENT = 64  # bytes: where torch.save starts a storage, and where it can be read in place
# The first two pickles of the old format, a magic number and a version, the same in each file
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."


def read_pickled(path: Path) -> object:
    """What `torch.save` wrote, with its tensors on the CPU; those of a zip are mapped into memory.

    Raises WeightsError for whatever is not tensors and plain values, made of the bytes that the file has.
    """
    check_torch(torch.__version__)
    with path.open("rb") as file:
        head = file.read(512)
        if head.startswith(b"PK\x03\x04"):
            in_place = _check_zip(file)
        elif head.startswith(LEGACY):
            _check_legacy(file)
            in_place = False
        else:
            raise WeightsError(f"expected a checkpoint of torch.save, got {kind_of(head)}")
    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=in_place)


def check_torch(version: str) -> None:
    """Refuse pickles where torch does not read them safely."""
    if TorchVersion(version) < MIN_TORCH:
        raise WeightsError(f"expected torch {MIN_TORCH} or later, which reads pickles safely, got {version}")


def _check_zip(file: IO[bytes]) -> bool:
    """Whether the storages can be read in place; anything unsafe is a WeightsError."""
    records = list_records(file)
    if "data.pkl" not in records:
        raise WeightsError("expected a checkpoint of torch.save, got a zip archive without data.pkl")
    for name, (_, size) in records.items():
        if not name.startswith("data/") and size > MAX_PICKLE_BYTES:  # torch reads these into memory
            raise WeightsError(f"expected {name!r} of at most {MAX_PICKLE_BYTES} bytes, got {size}")
    start, size = records["data.pkl"]
    file.seek(start)
    _, storages = dry_run(io.BytesIO(file.read(size)))
    in_place = True
    for key, storage in storages.items():
        record = records.get(f"data/{key}")
        if record is None or record.size != storage.bytes:
            got = "none" if record is None else record.size
            raise WeightsError(f"expected storage {key!r} of {storage.bytes} bytes, got {got}")
        in_place &= record.start % ALIGNMENT == 0
    return in_place


def _check_legacy(file: IO[bytes]) -> None:
    """The pickles are harmless, and the storages are as long as the rest of the file."""
    end = file.seek(0, 2)
    file.seek(len(LEGACY))
    pickles = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    dry_run(pickles)  # of the system that wrote it
    _, storages = dry_run(pickles)
    keys, _ = dry_run(pickles)
    if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):  # others compare for ever
        raise WeightsError("expected a list of keys of storages, got something else")
    if sorted(keys) != sorted(storages):
        raise WeightsError(f"expected the keys of {len(storages)} storages, got others")
    expected = sum(8 + storage.bytes for storage in storages.values())  # each after its length
    got = end - len(LEGACY) - pickles.tell()
    if got != expected:
        raise WeightsError(f"expected {expected} bytes of storages, got {got}")
