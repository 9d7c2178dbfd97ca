"""What was saved is what is read, from one file or from the shards of a folder."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from multimodal.zoo import WeightsError, find_weights, read_weights

from .forge import archive, entry, safetensors, saved, saved_as_before, table, tensor, text


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


def test_safetensors_at_odd_addresses_are_moved(tmp_path):
    header = {"a": entry(0, 1, [1], "U8"), "b": entry(1, 17)}
    data = torch.arange(4.0)
    (tmp_path / "x.safetensors").write_bytes(safetensors(header, b"\x05" + data.numpy().tobytes()))
    read = read_weights(tmp_path / "x.safetensors")
    same(read, {"a": torch.tensor([5], dtype=torch.uint8), "b": data})
    assert read["b"].data_ptr() % 4 == 0


@pytest.mark.parametrize("write", [saved, saved_as_before])
def test_what_torch_saves_is_read_as_written(write, tmp_path):
    weights = every_kind()
    base = torch.arange(12.0)
    weights |= {"view": base[3:7], "turned": base.reshape(3, 4).T, "same": weights["plain"]}
    weights["parameter"] = nn.Parameter(torch.ones(2))
    (tmp_path / "x.pt").write_bytes(write(weights))
    read = read_weights(tmp_path / "x.pt")
    same(read, weights)
    assert read["view"].untyped_storage().data_ptr() == read["turned"].untyped_storage().data_ptr()


def test_a_zip_of_others_is_read_where_its_storages_lie(tmp_path):
    """Not at multiples of 64 bytes, without torch's own records, and from a GPU."""
    data = archive(table(a=tensor([2, 2], [2, 1])).replace(text("cpu"), text("cuda:0")))
    (tmp_path / "x.pt").write_bytes(data)
    same(read_weights(tmp_path / "x.pt"), {"a": torch.zeros(2, 2)})


@pytest.mark.parametrize("write", [saved, saved_as_before])
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_the_weights_of_a_training_state(write, wrapper, tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    group = {"lr": 1e-3, "betas": (0.9, 0.99), "amsgrad": False, "foreach": None, "params": [0, 1]}
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}, 1: {}}, "param_groups": [group, group]}
    state = {wrapper: model.state_dict(), "optimizer": optimizer, "epoch": 2**40, "name": "x"}
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
        *("../model-1-of-2.safetensors", "./model-1-of-2.safetensors", "", ".", "..", "a\0.safetensors"),
        *(
            "/etc/passwd",
            "..\\x.safetensors",
            "model.safetensors.index.json",
            "model.bin",
            "link.safetensors",
        ),
    ],
)
def test_a_shard_elsewhere_is_refused(sharded, name, tmp_path_factory):
    folder, weights = sharded
    outside = tmp_path_factory.mktemp("outside") / "x.safetensors"
    save_file(weights, outside)
    (folder / "link.safetensors").symlink_to(outside)
    point(folder, dict.fromkeys(weights, name))
    with pytest.raises(
        WeightsError, match=r"index\.json: expected \.safetensors files beside the index, got"
    ):
        read_weights(find_weights(folder))


def test_an_index_must_tell_the_truth(sharded):
    folder, weights = sharded
    names = sorted(weights)
    first, second = "model-1-of-2.safetensors", "model-2-of-2.safetensors"
    whole = dict.fromkeys(names[:4], first) | dict.fromkeys(names[4:], second)
    for wrong, told in [
        (
            {k: v for k, v in whole.items() if k != names[0]},
            rf"{first}: .* \[\] missing, \['{names[0]}'\] spare",
        ),
        (whole | {"c": second}, rf"{second}: .* \['c'\] missing, \[\] spare"),
        (whole | {names[0]: second}, rf"{second}: .* \['{names[0]}'\] missing, \[\] spare"),
        (whole | {"c": 3}, "index.json: expected weight_map, a file name for each tensor"),
        ([first], "index.json: expected weight_map, a file name for each tensor, got list"),
    ]:
        point(folder, wrong)
        with pytest.raises(WeightsError, match=told):
            read_weights(find_weights(folder))
    point(folder, whole | {"c": "model-3-of-3.safetensors"})
    with pytest.raises(
        FileNotFoundError, match=r"model-3-of-3\.safetensors: expected a checkpoint, got no such"
    ):
        read_weights(find_weights(folder))


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"{",
            b"[]",
            b"3",
            b"\xff\xfe",
            b"{}",
            b'{"weight_map": {"a": "x", "a": "y"}}',
            b"[" * 100_000,
        ),
        *(b'{"weight_map": null}', b'{"weight_map": {"a": ["x"]}}', b'{"a":"' + b" " * 5_000_000 + b'"}'),
    ],
    ids=range(11),
)
def test_an_index_that_is_none_is_refused(data, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_bytes(data)
    with pytest.raises(WeightsError, match=r"model\.safetensors\.index\.json: expected"):
        read_weights(find_weights(tmp_path))


def test_the_safest_file_of_a_folder_is_read(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"expected a folder with one of model\.safetensors, .*, got none"
    ):
        read_weights(find_weights(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(saved({"a": torch.full((1,), 1.0)}))
    assert read_weights(find_weights(tmp_path))["a"] == 1
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(saved({"a": torch.full((1,), 2.0)}))
    assert read_weights(find_weights(tmp_path))["a"] == 2
    for i, name in enumerate(("open_clip_model.safetensors", "model.safetensors"), 3):
        save_file({"a": torch.full((1,), float(i))}, tmp_path / name)
        assert read_weights(find_weights(tmp_path))["a"] == i
    (
        tmp_path / "open_clip_config.json"
    ).touch()  # then the other may be of transformers, or one tower of timm
    assert read_weights(find_weights(tmp_path))["a"] == 3
    (tmp_path / "open_clip_config.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").symlink_to("nowhere")  # nothing else is taken in its place
    with pytest.raises(
        FileNotFoundError, match=r"model\.safetensors: expected a checkpoint, got no such file"
    ):
        read_weights(find_weights(tmp_path))
