"""Checkpoints of unknown origin: tensors or a reason, and nothing else happens."""

import hashlib
import os
import random
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from multimodal.zoo import WeightsError, read_weights
from multimodal.zoo.reading.pickled import check_torch
from multimodal.zoo.reading.weights import plain_tensors

from .attacks import ATTACKS
from .forge import saved, saved_as_before
from .pickle_attacks import RUN


def written(attack, folder):
    """The file of the attack, and the path at which it would leave its canary."""
    path, canary = folder / attack.file, folder / "canary"
    path.write_bytes(attack.data if isinstance(attack.data, bytes) else attack.data(canary))
    return path, canary


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused_by_name(attack, tmp_path):
    path, canary = written(attack, tmp_path)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert attack.told in message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 250
    assert not canary.exists()


@pytest.mark.parametrize("attack", RUN.values(), ids=RUN)
def test_the_code_would_run_where_pickles_are_trusted(attack, tmp_path):
    path, canary = written(attack, tmp_path)
    with path.open("rb") as file, suppress(Exception):
        torch.load(file, weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_file_is_refused_by_name(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    with pytest.raises(FileNotFoundError, match=f"x{suffix}: expected a checkpoint, got no such file"):
        read_weights(path)
    path.mkdir()
    with pytest.raises(WeightsError, match=f"x{suffix}: expected a regular file, got a folder"):
        read_weights(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(
        WeightsError, match=f"x{suffix}: expected a regular file, got a device, pipe or socket"
    ):
        read_weights(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(
        WeightsError, match=f"x{suffix}: expected a regular file, got a device, pipe or socket"
    ):
        read_weights(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(WeightsError, match=f"x{suffix}: cannot be read: Too many levels of symbolic links"):
        read_weights(path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(saved({}))
    path.chmod(0)
    with pytest.raises(WeightsError, match=r"x\.pt: cannot be read: Permission denied"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_another_hash_is_refused_before_anything_is_read(suffix, tmp_path):
    weights = {"a": torch.arange(4.0)}
    data = save(weights) if suffix == ".safetensors" else saved(weights)
    sha256 = hashlib.sha256(data).hexdigest()
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    assert torch.equal(read_weights(path, sha256=sha256)["a"], weights["a"])
    at = data.index(weights["a"].numpy().tobytes())
    for changed in (data[:at] + b"\x01" + data[at + 1 :], b"no checkpoint"):
        path.write_bytes(changed)
        got = hashlib.sha256(changed).hexdigest()
        with pytest.raises(WeightsError, match=f"x{suffix}: expected sha256 {sha256}, got {got}"):
            read_weights(path, sha256=sha256)


@pytest.mark.filterwarnings("ignore:.*quantized:UserWarning")  # they will be removed from torch
def test_what_is_not_dense_is_refused_by_name():
    for odd, told in [
        (torch.eye(2).to_sparse(), "torch.sparse_coo, torch.float32, on cpu"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "torch.strided, torch.qint8, on cpu"),
        (torch.ones(2, device="meta"), "torch.strided, torch.float32, on meta"),
    ]:
        with pytest.raises(WeightsError, match=f"'b': expected a dense tensor on the CPU, got {told}"):
            plain_tensors({"a": torch.ones(1), "b": odd})
    with pytest.raises(WeightsError, match="'b': expected a tensor, got Odd"):
        plain_tensors({"b": torch.ones(1).as_subclass(type("Odd", (torch.Tensor,), {}))})


def test_pickles_need_a_torch_that_reads_them_safely():
    for version in ("2.9.1", "2.9.1+cu128", "1.13", "2.10.0a0"):
        with pytest.raises(WeightsError, match=f"expected torch 2.10 or later, .* got {version[:3]}"):
            check_torch(version)
    for version in ("2.10", "2.10.0+cpu", "2.15.0+cu132", "3.0"):
        check_torch(version)


# Damage

SMALL = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.tensor(3)}
WHOLE = {"x.safetensors": save(SMALL), "x.pt": saved(SMALL), "x.bin": saved_as_before(SMALL)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 4), cut=st.booleans())
def test_a_damaged_file_gives_tensors_or_a_reason(place, name, seed, flips, cut):
    rng = random.Random(seed)
    data = bytearray(WHOLE[name])
    for _ in range(flips):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path = place / name
    path.write_bytes(data[: rng.randrange(len(data))] if cut else data)
    told = f"{path}: "
    try:
        weights = read_weights(path)
    except WeightsError as error:
        weights, told = {}, str(error)
    assert told.startswith(f"{path}: ")
    assert all(type(read) is torch.Tensor for read in weights.values())
    assert sum(read.clone().nbytes for read in weights.values()) <= len(data)
