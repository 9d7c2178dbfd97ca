"""What training scripts save is read as the weights in it; whatever lies beside them is skipped."""

import argparse
import datetime
import fractions
import pathlib
import random
import warnings
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from multimodal.zoo import CheckpointError, find_weights, load, read_weights

from .checkpoints import OPEN_CLIP, spread


class Config:
    """Of the script: no other process can import it."""

    def __init__(self) -> None:
        self.rate, self.path = 0.1, pathlib.Path("x")

    def __setstate__(self, state):
        raise AssertionError("executed")


class Settings(dict):
    def __reduce__(self):
        return fail, (), None, None, iter(self.items())


def fail(*_):
    raise AssertionError("executed")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1).bfloat16())


STATE = network().state_dict()
BESIDE = {
    "numpy float": np.float64(0.5),
    "numpy int": np.int64(3),
    "numpy bool": np.bool_(True),
    "numpy array": np.arange(6.0).reshape(2, 3),
    "array of strings": np.array(["a", "b"]),
    "array of objects": np.array([{"a": 1}, None], object),
    "generator": np.random.default_rng(0),
    "namespace": argparse.Namespace(lr=0.1, out=pathlib.Path("x")),
    "path": pathlib.Path("/a/b"),
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset([1]),
    "complex": 1 + 2j,
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"abc"),
    "date": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "delta": datetime.timedelta(1),
    "fraction": fractions.Fraction(1, 3),
    "device": torch.device("cuda:0"),
    "dtype": torch.bfloat16,
    "size": torch.Size([1, 2]),
    "layout": torch.strided,
    "random states": (random.getstate(), np.random.default_rng(0).bit_generator.state, torch.get_rng_state()),
    "defaultdict": defaultdict(list, a=[1]),
    "counter": Counter("aab"),
    "deep": {"a": [{"b": ({"c": OrderedDict(d=1)},)}]},
    "large integers": [2**31, 2**63, -(2**80), 2**2100],
    "history": [float(i) for i in range(1000)],
    "function": fail,
    "class": Config,
    "own object": Config(),
    "own dict": Settings(a=1),
    "slice": slice(1, 2),
    "range": range(3),
    "ellipsis": ...,
    "surrogate": "caf\udce9",
    "sparse": torch.eye(2).to_sparse(),
    "uint16": torch.ones(2, dtype=torch.uint16),
    "keys": {(1, 2): 3, 4: 5, None: 6, 1.5: 7},
}


def same(read, expected=STATE):
    assert set(read) == set(expected)
    for name, tensor in read.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_the_weights_is_skipped(name, old, tmp_path):
    state = {"epoch": 3, "a": BESIDE[name], "model": STATE, "z": [BESIDE[name]]}
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=not old)
    same(read_weights(tmp_path / "x.pt"))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read(protocol, old, tmp_path):
    state = {"state_dict": OrderedDict(STATE), "beside": BESIDE, "again": STATE}
    torch.save(state, tmp_path / "x.ckpt", pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    same(read_weights(tmp_path / "x.ckpt"))


@pytest.mark.parametrize("name", ["numpy float", "numpy array", "path", "own object", "sparse", "device", "set"])
def test_what_lies_among_the_weights_is_refused(name, tmp_path):
    torch.save({"model": STATE | {"odd": BESIDE[name]}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"expected tensors by name, got .* under 'odd'"):
        read_weights(tmp_path / "x.pt")


def test_a_pickled_network_is_refused_with_its_class(tmp_path):
    for value in (network(), {"model": network()}):
        torch.save(value, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=r"got torch\.nn\.modules\.container\.Sequential"):
            read_weights(tmp_path / "x.pt")


OTHER = {name: tensor + 1 for name, tensor in STATE.items()}
WRAPPED = {
    **{
        key: {key: STATE, "epoch": 1}
        for key in ("state_dict", "model", "net", "network", "module", "model_ema", "ema", "state_dict_ema", "params")
    },
    "unknown": {"my_weights": STATE, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{}]}},
    "config under model": {"model": {"name": "ViT", "width": 3}, "state_dict": STATE},
    "config under model, rarely": {"model": {"name": "ViT"}, "weights": STATE},
    "both": {"model_ema": OTHER, "model": STATE},
    "twice": {"model": {"state_dict": STATE}, "rng": torch.ones(1)},
    "shadow": {"ema": {"decay": 0.99, "shadow": STATE}},
    "same": {"a": STATE, "b": STATE, "model": STATE},
    "Lightning": {
        "state_dict": {f"model.{k}": v for k, v in STATE.items()},
        "hyper_parameters": Settings(lr=1.0),
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.ones(1), "path": "x"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(1)}}}],
        "loops": {"fit_loop": {"state_dict": {}}},
        "pytorch-lightning_version": "2.1",
    },
    "DeepSpeed": {
        "module": STATE,
        "buffer_names": ["1.running_mean"],
        "optimizer": None,
        "param_shapes": [OrderedDict(a=torch.Size([2, 3]))],
        "dp_world_size": 2,
        "ds_config": {"fp16": {"enabled": True}},
        "frozen_param_shapes": None,
    },
    "LAION": {"epoch": 31, "name": "x", "state_dict": {f"module.{k}": v for k, v in STATE.items()}, "scaler": {}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_weights_are_found(name, tmp_path):
    torch.save(WRAPPED[name], tmp_path / "x.pt")
    same(read_weights(tmp_path / "x.pt"))


def test_two_models_in_a_file_are_refused(tmp_path):
    torch.save({"generator": STATE, "discriminator": STATE | {}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="expected tensors by name, got dict under 'generator'"):
        read_weights(tmp_path / "x.pt")


PREFIXES = ["_orig_mod.", "model.", "module.", "module._orig_mod.", "_orig_mod.module.", "model.module.", "net.model."]


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("prefix", [*PREFIXES, "_fsdp_wrapped_module.", "_forward_module.model."])
def test_prefixes_are_removed(prefix, suffix, tmp_path):
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    (torch.save if suffix == "pt" else save_file)(state, tmp_path / f"x.{suffix}")
    same(read_weights(tmp_path / f"x.{suffix}"))
    exact = read_weights(tmp_path / f"x.{suffix}", exact=True)
    assert set(exact) == set(state)


def test_prefixes_inside_names_are_removed(tmp_path):
    compiled = network()
    compiled[0] = torch.compile(compiled[0])
    averaged = torch.optim.swa_utils.AveragedModel(network())
    for state in (compiled.state_dict(), averaged.state_dict()):
        torch.save(state, tmp_path / "x.pt")
        same(read_weights(tmp_path / "x.pt"))
    torch.save({"model.a": torch.ones(1), "loss.b": torch.ones(1)}, tmp_path / "x.pt")
    assert list(read_weights(tmp_path / "x.pt")) == ["model.a", "loss.b"]
    torch.save({"a._orig_mod.b": torch.ones(1), "a.b": torch.ones(1)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="expected tensors with different names"):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["model.pt", "epoch_3.pt", "last.ckpt", "weights.bin", "a.pth", "b.safetensors"])
def test_the_only_weights_of_a_folder(name, tmp_path):
    for other in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state_0.pth", "optimizer.bin", "README.md"):
        (tmp_path / other).touch()
    (save_file if name.endswith("safetensors") else torch.save)(STATE, tmp_path / name)
    assert find_weights(tmp_path) == tmp_path / name
    (tmp_path / "other.pt").touch()
    with pytest.raises(FileNotFoundError, match=r"or with one other file of weights, got \['.*', '.*'\]"):
        find_weights(tmp_path)


# Architectures of open_clip


@pytest.fixture(scope="module")
def arch(tmp_path_factory):
    import json

    import open_clip

    folder = tmp_path_factory.mktemp("architectures")
    (folder / "tiny.json").write_text(json.dumps(OPEN_CLIP | {"quick_gelu": True}))
    (folder / "tiny-gelu.json").write_text(json.dumps(OPEN_CLIP))
    open_clip.add_model_config(folder)
    return spread(open_clip.CLIP(**OPEN_CLIP)).state_dict()


@pytest.mark.parametrize("kind", [int, torch.tensor])
def test_the_description_in_files_of_openai(kind, arch, tmp_path):
    more = {"input_resolution": kind(32), "context_length": kind(32), "vocab_size": kind(49408)}
    torch.save(arch | more, tmp_path / "x.pt")
    model = load("tiny", weights=tmp_path / "x.pt", device="cpu", dtype=torch.float32)
    assert torch.equal(model.network.encoders["text"].positions, arch["positional_embedding"])
    with pytest.warns(
        UserWarning, match="activation: expected quick_gelu, as in OpenAI's models, got gelu in tiny-gelu"
    ):
        load("tiny-gelu", weights=tmp_path / "x.pt", device="cpu", dtype=torch.float32)


def test_torchscript_says_how_to_save_the_state_dict(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # PyTorch deprecates it
        torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"torch\.save\(torch\.jit\.load\(path\)\.state_dict\(\), new_path\)"):
        read_weights(tmp_path / "x.pt")


def test_paths_may_begin_with_home_or_a_scheme(arch, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a folder").mkdir()
    torch.save(arch, tmp_path / "a folder" / "x.pt")
    uri = (tmp_path / "a folder" / "x.pt").as_uri()
    for weights in ("~/a folder/x.pt", "~/a folder", pathlib.Path("~/a folder/x.pt"), uri, uri.removesuffix("/x.pt")):
        load("tiny", weights=weights, device="cpu", dtype=torch.float32)
    same(read_weights(uri), arch)
    with pytest.raises(FileNotFoundError, match="expected a folder, a file"):
        load("file:///nowhere/x")
