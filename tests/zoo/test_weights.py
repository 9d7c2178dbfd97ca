"""Weights are read as they were written; anything else is refused with an error that names the file."""

import hashlib
import json
import os
import random
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

from multimodal.files import sha256_of
from multimodal.zoo import CheckpointError, find_weights, read_weights, weights_sha256

from .hostile import ATTACKS, LOADED, RUN, archive, entry, safetensors, saved, saved_legacy, table, tensor, text


def same(weights, expected):
    assert list(weights) == list(expected)
    for name, ours in weights.items():
        assert type(ours) is torch.Tensor, name
        assert ours.dtype == expected[name].dtype, name
        assert not ours.requires_grad, name
        assert torch.equal(ours, expected[name]), name


def every_kind() -> dict[str, torch.Tensor]:
    floats = torch.arange(6.0).reshape(2, 3)
    kinds = [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool]
    return {
        **{"plain": floats, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)},
        **{str(kind): floats.to(kind) for kind in kinds},
    }


def test_safetensors_are_read_as_written(tmp_path):
    weights = every_kind()
    save_file(weights, tmp_path / "x.safetensors", metadata={"format": "pt"})
    read = read_weights(tmp_path / "x.safetensors")
    same({name: read[name] for name in weights}, weights)
    assert len(read) == len(weights)
    (tmp_path / "y.safetensors").symlink_to("x.safetensors")
    same(read_weights(str(tmp_path / "y.safetensors")), read)
    read["plain"].fill_(7)
    assert torch.equal(read_weights(tmp_path / "x.safetensors")["plain"], weights["plain"])


def test_safetensors_at_odd_addresses_are_copied(tmp_path):
    header = {"a": entry(0, 1, [1], "U8"), "b": entry(1, 17)}
    data = torch.arange(4.0)
    (tmp_path / "x.safetensors").write_bytes(safetensors(header, b"\x05" + data.numpy().tobytes()))
    read = read_weights(tmp_path / "x.safetensors")
    same(read, {"a": torch.tensor([5], dtype=torch.uint8), "b": data})
    assert read["b"].data_ptr() % 4 == 0


@pytest.mark.parametrize("write", [saved, saved_legacy])
def test_torch_files_are_read_as_written(write, tmp_path):
    weights = every_kind()
    base = torch.arange(12.0)
    weights |= {"view": base[3:7], "turned": base.reshape(3, 4).T, "same": weights["plain"]}
    weights["parameter"] = nn.Parameter(torch.ones(2))
    (tmp_path / "x.pt").write_bytes(write(weights))
    read = read_weights(tmp_path / "x.pt")
    same(read, weights)
    assert read["view"].untyped_storage().data_ptr() == read["turned"].untyped_storage().data_ptr()
    assert not read["plain"].untyped_storage().resizable() or write is saved_legacy  # memory-mapped where aligned


def test_a_zip_of_another_writer_is_read(tmp_path):
    """Its storages are not aligned, it lacks torch's own records, and the tensors were on a GPU."""
    data = archive(table(a=tensor([2, 2], [2, 1])).replace(text("cpu"), text("cuda:0")))
    (tmp_path / "x.pt").write_bytes(data)
    same(read_weights(tmp_path / "x.pt"), {"a": torch.zeros(2, 2)})


@pytest.mark.parametrize("write", [saved, saved_legacy])
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_the_weights_of_a_training_state(write, wrapper, tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW([{"params": model[0].parameters()}, {"params": model[1].parameters()}])
    model(torch.ones(2, 2)).sum().backward()
    optimizer.step()
    state = {wrapper: model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 2**40, "name": "x"}
    state["random"] = random.getstate()
    group = {"lr": 1e-3, "foreach": None, "params": [0, 1]}
    state["groups"] = [group, group]
    (tmp_path / "x.ckpt").write_bytes(write(state))
    same(read_weights(tmp_path / "x.ckpt"), model.state_dict())
    (tmp_path / "x.bin").write_bytes(write(nn.DataParallel(model).state_dict()))
    same(read_weights(tmp_path / "x.bin"), model.state_dict())
    (tmp_path / "x.pth").write_bytes(write({"module.a": torch.ones(1), "b": torch.ones(1)}))
    assert list(read_weights(tmp_path / "x.pth")) == ["module.a", "b"]


@pytest.fixture
def sharded(tmp_path):
    """A folder as transformers writes it, and its weights."""
    weights = every_kind()
    names = sorted(weights)
    shards = {"model-1-of-2.safetensors": names[:4], "model-2-of-2.safetensors": names[4:]}
    for file, keys in shards.items():
        save_file({key: weights[key] for key in keys}, tmp_path / file)
    point(tmp_path, {key: file for file, keys in shards.items() for key in keys})
    return tmp_path, weights


def point(folder, weight_map):
    table = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))


def test_shards_are_one_checkpoint(sharded):
    folder, weights = sharded
    read = read_weights(find_weights(folder))
    same({name: read[name] for name in weights}, weights)
    assert len(read) == len(weights)


def test_shards_in_the_cache_of_the_hub_are_links(sharded, tmp_path_factory):
    folder, weights = sharded
    cache = tmp_path_factory.mktemp("hub")
    (cache / "blobs").mkdir()
    (cache / "snapshots" / "rev").mkdir(parents=True)
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(cache / "blobs" / str(i))
        (cache / "snapshots" / "rev" / path.name).symlink_to(f"../../blobs/{i}")
    assert set(read_weights(find_weights(cache / "snapshots" / "rev"))) == set(weights)


@pytest.mark.parametrize(
    "name",
    [
        *("../model-1-of-2.safetensors", "./model-1-of-2.safetensors", "", ".", ".."),
        *("/etc/passwd", "model.safetensors.index.json", "model.bin"),
    ],
)
def test_a_shard_elsewhere_is_refused(sharded, name):
    folder, weights = sharded
    point(folder, dict.fromkeys(weights, name))
    with pytest.raises(CheckpointError, match=r"index\.json: expected \.safetensors files next to the index"):
        read_weights(find_weights(folder))


def test_an_index_must_tell_the_truth(sharded):
    folder, weights = sharded
    names = sorted(weights)
    first, second = "model-1-of-2.safetensors", "model-2-of-2.safetensors"
    whole = dict.fromkeys(names[:4], first) | dict.fromkeys(names[4:], second)
    for wrong, told in [
        ({k: v for k, v in whole.items() if k != names[0]}, rf"{first}: .* \[\] missing, \['{names[0]}'\] spare"),
        (whole | {"c": second}, rf"{second}: .* \['c'\] missing, \[\] spare"),
        (whole | {names[0]: second}, rf"{second}: .* \['{names[0]}'\] missing, \[\] spare"),
        (whole | {"c": 3}, "index.json: expected .safetensors files next to the index, got 3"),
        ([first], "index.json: expected a table weight_map"),
    ]:
        point(folder, wrong)
        with pytest.raises(CheckpointError, match=told):
            read_weights(find_weights(folder))
    point(folder, whole | {"c": "model-3-of-3.safetensors"})
    with pytest.raises(FileNotFoundError, match=r"model-3-of-3\.safetensors: expected a checkpoint, got no such"):
        read_weights(find_weights(folder))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"3", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"weight_map": null}'),
        *(b'{"weight_map": {"a": ["x"]}}', b'{"a":"' + b" " * 5_000_000 + b'"}'),
    ],
    ids=range(10),
)
def test_a_broken_index_is_refused(data, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json: "):
        read_weights(find_weights(tmp_path))


def test_the_hash_of_shards_covers_all_of_them(sharded):
    folder, weights = sharded
    index = find_weights(folder)
    shards = ("model-1-of-2.safetensors", "model-2-of-2.safetensors")
    lines = [f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}" for name in shards]
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert weights_sha256(index) == expected
    assert set(read_weights(index, sha256=expected)) == set(weights)
    data = bytearray((folder / shards[1]).read_bytes())
    data[-1] ^= 1
    (folder / shards[1]).write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"index\.json: expected sha256 {expected}, got "):
        read_weights(index, sha256=expected)


def test_the_safest_file_of_a_folder_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder with one of model\.safetensors, .*, got none"):
        read_weights(find_weights(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(saved({"a": torch.full((1,), 1.0)}))
    assert read_weights(find_weights(tmp_path))["a"] == 1
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(saved({"a": torch.full((1,), 2.0)}))
    assert read_weights(find_weights(tmp_path))["a"] == 2
    for i, name in enumerate(("open_clip_model.safetensors", "model.safetensors"), 3):
        save_file({"a": torch.full((1,), float(i))}, tmp_path / name)
        assert read_weights(find_weights(tmp_path))["a"] == i
    (tmp_path / "open_clip_config.json").touch()  # then the other may be of transformers, or one tower of timm
    assert read_weights(find_weights(tmp_path))["a"] == 3
    (tmp_path / "open_clip_config.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").symlink_to("nowhere")  # nothing else is taken in its place
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: expected a checkpoint, got no such file"):
        read_weights(find_weights(tmp_path))


# Untrusted files


def written(attack, folder):
    """The file of the attack, and the path at which it would leave its canary."""
    path, canary = folder / attack.file, folder / "canary"
    path.write_bytes(attack.data if isinstance(attack.data, bytes) else attack.data(canary))
    return path, canary


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_does_no_harm(attack, tmp_path):
    path, canary = written(attack, tmp_path)
    if attack.told == LOADED:
        with suppress(CheckpointError):
            assert [tuple(read.shape) for read in read_weights(path).values()] == [(4,)]
        assert not canary.exists()
        return
    try:
        read_weights(path)
        raise AssertionError("read")
    except CheckpointError as error:
        message = str(error)  # without the frames: pytest would print their arguments, forever
    assert message.startswith(f"{path}: ")
    assert attack.told in message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 250
    assert "weights_only` set to `False`" not in message
    assert not canary.exists()


@pytest.mark.parametrize("attack", RUN.values(), ids=RUN)
def test_the_code_would_run_in_a_trusted_pickle(attack, tmp_path):
    path, canary = written(attack, tmp_path)
    with path.open("rb") as file, suppress(Exception):
        torch.load(file, weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_path_without_a_regular_file_is_refused(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    with pytest.raises(FileNotFoundError, match=f"x{suffix}: expected a checkpoint, got no such file"):
        read_weights(path)
    path.mkdir()
    with pytest.raises(CheckpointError, match=f"x{suffix}: expected a regular file, got a folder"):
        read_weights(path)
    path.rmdir()
    os.mkfifo(path)
    for sha256 in (None, "0" * 64):
        with pytest.raises(CheckpointError, match=f"x{suffix}: expected a regular file, got a device or pipe"):
            read_weights(path, sha256=sha256)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=f"x{suffix}: expected a regular file, got a device or pipe"):
        read_weights(path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(saved({}))
    path.chmod(0)
    with pytest.raises(CheckpointError, match=r"x\.pt: cannot be read: Permission denied"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_another_hash_is_refused_before_anything_is_parsed(suffix, tmp_path):
    weights = {"a": torch.arange(4.0)}
    path = tmp_path / f"x{suffix}"
    path.write_bytes(save(weights) if suffix == ".safetensors" else saved(weights))
    sha256 = weights_sha256(path)
    assert sha256 == sha256_of(path)
    assert torch.equal(read_weights(path, sha256=sha256)["a"], weights["a"])
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=f"x{suffix}: expected sha256 {sha256}, got {sha256_of(path)}"):
        read_weights(path, sha256=sha256)


SMALL = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.tensor(3)}
WHOLE = {"x.safetensors": save(SMALL), "x.pt": saved(SMALL), "x.bin": saved_legacy(SMALL)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 4), cut=st.booleans())
def test_a_damaged_file_loads_or_is_refused(place, name, seed, flips, cut):
    rng = random.Random(seed)
    data = bytearray(WHOLE[name])
    for _ in range(flips):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path = place / name
    path.write_bytes(data[: rng.randrange(len(data))] if cut else data)
    told = f"{path}: "
    try:
        weights = read_weights(path)
    except CheckpointError as error:
        weights, told = {}, str(error)
    assert told.startswith(f"{path}: ")
    assert all(type(read) is torch.Tensor for read in weights.values())
    assert sum(read.clone().nbytes for read in weights.values()) <= 4 * len(data)
