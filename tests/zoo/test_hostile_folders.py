"""Folders of unknown origin: `load` gives a model or an error of one line, quickly and with little memory."""

import hashlib
import json
import os
import re
import resource
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal import load
from multimodal.zoo import convert

MEMORY = 1_500_000_000  # bytes that a refusal may allocate; the folders have a few MB
KINDS = ("clip", "matcher", "open_clip", "open_clip tower", "own")
SETTINGS = {
    **dict.fromkeys(("clip", "matcher", "own"), "config.json"),
    **dict.fromkeys(("open_clip", "open_clip tower"), "open_clip_config.json"),
}
JUNK = {
    "an empty file": b"",
    "not JSON": b"{'a': 1}",
    "not a table": b"[1, 2]",
    "not UTF-8": b"\xff\xfe{}",
    "deep": b'{"a":' * 50_000,
    "deep lists": b"[" * 100_000,
    "a number of many digits": b'{"a": ' + b"9" * 100_000 + b"}",
    "megabytes": b'{"a": "' + b" " * 5_000_000 + b'"}',
    "an empty table": b"{}",
}
VALUES = [10**12, 10**9, -1, 0, 1.5, float("nan"), float("inf"), 1e308, "many", "", None, True, [], {}, [10**9] * 4]


@pytest.fixture(scope="module")
def folders(checkpoint, tmp_path_factory):
    """One of each kind, all of which can be loaded."""
    found = {kind: checkpoint(kind) for kind in KINDS if kind != "own"}
    found["own"] = convert(found["open_clip tower"], tmp_path_factory.mktemp("folders") / "own")
    for folder in found.values():
        load(folder, device="cpu")
    return found


@pytest.fixture
def spoil(folders, tmp_path):
    def spoil(kind):
        shutil.rmtree(tmp_path / "spoiled", ignore_errors=True)
        return shutil.copytree(folders[kind], tmp_path / "spoiled", copy_function=os.link)

    return spoil


def write(path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # it is a link to the intact file
    path.write_bytes(data)


def refused(folder) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load(folder, device="cpu")
    return str(caught.value)


@pytest.fixture(autouse=True)
def little_memory():
    """More is an error in this process, and does not take down the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("junk", JUNK)
def test_damaged_configs(spoil, kind, junk):
    folder = spoil(kind)
    write(folder / SETTINGS[kind], JUNK[junk])
    assert "expected" in refused(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("junk", [name for name in JUNK if name != "an empty table"])
def test_damaged_other_files(spoil, name, junk):
    folder = spoil("clip")
    write(folder / name, JUNK[junk])
    assert "expected" in refused(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_names_of_a_config(spoil, kind):
    """Replaced by any other value: a model or an error."""
    folder = spoil(kind)
    path = folder / SETTINGS[kind]
    text = path.read_text()
    places = [place for place in paths(json.loads(text)) if "card" not in place]
    places = places[:: len(places) // 10 + 1]  # a sample; the last test draws from all places
    outcomes = {"loaded": 0, "refused": 0}
    for i, place in enumerate(places):
        for value in (VALUES[i % len(VALUES)], 10**9 if i % 2 else 10**12):
            write(path, json.dumps(put(json.loads(text), place, value)).encode())
            outcomes[outcome(folder)] += 1
    assert outcomes["refused"] >= len(places) / 4


def outcome(folder) -> str:
    try:
        load(folder, device="cpu")
    except (ValueError, FileNotFoundError):
        return "refused"
    return "loaded"


def paths(table, before=()):
    """The places of the values in nested tables."""
    for key, value in table.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from paths(value, (*before, key))


def put(table, place, value):
    inner = table
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return table


WIDE = {  # configs of more than the weights
    "clip": [
        (("text_config", "num_hidden_layers"), 10**9),
        (("vision_config", "num_hidden_layers"), 10**6),
        (("vision_config", "hidden_size"), 10**12),
        (("text_config", "intermediate_size"), 2**62),
        (("vision_config", "image_size"), 10**9),
        (("text_config", "max_position_embeddings"), 10**9),
        (("projection_dim",), 10**12),
    ],
    "open_clip": [
        (("model_cfg", "vision_cfg", "layers"), 10**9),
        (("model_cfg", "vision_cfg", "layers"), [10**9] * 4),
        (("model_cfg", "text_cfg", "width"), 10**12),
        (("model_cfg", "text_cfg", "context_length"), 10**9),
        (("model_cfg", "text_cfg", "vocab_size"), 10**12),
        (("model_cfg", "embed_dim"), 10**12),
    ],
    "own": [
        (("model", "encoders", "text", "layers"), 10**9),
        (("model", "encoders", "image", "vision_cfg", "timm_model_name"), "vit_giant_patch14_reg4_dinov2"),
        (("model", "embed_dim"), 10**15),
    ],
}


@pytest.mark.parametrize(
    ("kind", "place", "value"), [(kind, *change) for kind, changes in WIDE.items() for change in changes]
)
def test_a_model_larger_than_its_weights_is_never_allocated(spoil, kind, place, value):
    folder = spoil(kind)
    path = folder / SETTINGS[kind]
    write(path, json.dumps(put(json.loads(path.read_text()), place, value)).encode())
    assert re.search("expected|could not build the model", refused(folder))


@pytest.mark.parametrize("name", ["hf-hub:people/tower", "hf_hub:people/tower", "local-dir:/etc", "../../tower"])
def test_names_of_towers_that_lead_elsewhere(spoil, name):
    folder = spoil("open_clip tower")
    table = json.loads((folder / "open_clip_config.json").read_text())
    table["model_cfg"]["vision_cfg"]["timm_model_name"] = name
    write(folder / "open_clip_config.json", json.dumps(table).encode())
    assert "timm_model_name: expected the name of a model of timm" in refused(folder)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "expected the config.json of people/tower beside the weights, got none"),
        ({"model_type": "timm_wrapper", "architecture": "hf-hub:people/tower"}, "got one of 'timm_wrapper'"),
        ({"model_type": "roberta", "_attn_implementation": "people/kernel"}, "no choice of code"),
        ({"model_type": "roberta", "hidden_size": 10**12}, "could not build the model"),
        ({"model_type": "roberta", "num_hidden_layers": 10**9}, "could not build the model"),
    ],
)
def test_text_towers_of_transformers_that_lead_elsewhere(spoil, config, told):
    folder = spoil("open_clip")
    table = json.loads((folder / "open_clip_config.json").read_text())
    table["model_cfg"]["text_cfg"] = {"hf_model_name": "people/tower"}
    write(folder / "open_clip_config.json", json.dumps(table).encode())
    write(folder / "config.json", json.dumps(config).encode())
    assert told in refused(folder)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "model.safetensors/."])
def test_shards_elsewhere(spoil, name):
    folder = spoil("clip")
    (folder / "model.safetensors").rename(folder.parent / "x.safetensors")
    write(folder / "model.safetensors.index.json", json.dumps({"weight_map": {"a": name}}).encode())
    assert "expected .safetensors files next to the index" in refused(folder)
    (folder.parent / "x.safetensors").unlink()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("what", ["link to a device", "link to itself", "pipe", "folder"])
def test_files_that_are_not_regular(spoil, name, what):
    """Nothing waits forever, and nothing is read without end."""
    path = spoil("clip") / name
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if what == "link to a device" else path)
    refused(path.parent)


def test_a_long_vocabulary(spoil):
    folder = spoil("clip")
    write(folder / "tokenizer.json", b"")
    os.truncate(folder / "tokenizer.json", 2**40)  # without a byte on the disk
    assert "tokenizer.json: expected at most" in refused(folder)


def test_a_changed_bit(spoil):
    folder = spoil("own")
    data = bytearray((folder / "model.safetensors").read_bytes())
    expected = hashlib.sha256(data).hexdigest()
    data[-1] ^= 1
    write(folder / "model.safetensors", bytes(data))
    assert f"expected sha256 {expected}" in refused(folder)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_anything_in_any_place(folders, tmp_path_factory, data):
    """Values of any kind, anywhere."""
    kind = data.draw(st.sampled_from(KINDS))
    folder = tmp_path_factory.mktemp("any")
    shutil.copytree(folders[kind], folder, copy_function=os.link, dirs_exist_ok=True)
    path = folder / SETTINGS[kind]
    table = json.loads(path.read_text())
    places = [place for place in paths(table) if "golden" not in place]
    place = data.draw(st.sampled_from(places))
    scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text()
    value = data.draw(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
    write(path, json.dumps(put(table, place, value)).encode())
    outcome(folder)
