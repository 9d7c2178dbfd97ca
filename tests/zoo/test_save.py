"""Model folders: a saved model is loaded unchanged, and contradictions are refused by name."""

import hashlib
import json
import shutil
from functools import reduce

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from multimodal.generation import Greedy
from multimodal.preprocess import HFSettings, HFTokenizer, ImageTransform
from multimodal.zoo import choose_device, load, save_folder, update_card, verify
from multimodal.zoo.golden import MAX_NEW_TOKENS, example_image


@pytest.fixture(scope="module")
def written(make_model, tmp_path_factory):
    """A model folder, and the model that was saved in it."""
    model = make_model(seed=3, name="written")
    folder = tmp_path_factory.mktemp("zoo") / "written"
    save_folder(folder, "written", model.network, model.inputs, {"about": "x"})
    return folder, model


def load_exact(folder, **options):
    return load(folder, device="cpu", dtype=torch.float32, **options)


@pytest.fixture
def folder(written, tmp_path):
    """A copy to change."""
    return shutil.copytree(written[0], tmp_path / "copy")


def change(folder, **keys):
    """Change config.json. A dict changes the keys that it has; a key with dots is a path of keys."""
    table = json.loads((folder / "config.json").read_text())
    for key, value in keys.items():
        *path, last = key.split(".")
        place = reduce(dict.__getitem__, path, table)
        place[last] = place[last] | value if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(table))


def put_tensors(folder, tensors):
    data = save(tensors)
    (folder / "model.safetensors").write_bytes(data)
    change(folder, weights_sha256=hashlib.sha256(data).hexdigest(), card={"contract": {}})


def test_a_loaded_model_is_the_saved_one_rounded(written):
    folder, model = written
    loaded = load_exact(folder)
    for (name, ours), theirs in zip(loaded.network.named_parameters(), model.network.parameters(), strict=True):
        assert torch.equal(ours, theirs.to(torch.bfloat16).float() if theirs.ndim else theirs), name
    assert (loaded.name, loaded.can, loaded.card["about"]) == ("written", model.can, "x")
    assert loaded.transform == model.transform
    assert loaded.fingerprint == model.fingerprint  # in which weights count as rounded
    assert loaded.dtype == torch.float32
    assert load(folder, device="cpu", dtype=torch.bfloat16).dtype == torch.bfloat16
    assert {path.name for path in folder.iterdir()} == {
        *("model.safetensors", "config.json", "tokenizer.json", "README.md")
    }


def test_golden_vectors_identify_the_model(written, folder):
    model = load_exact(folder)
    golden = model.card["golden"]
    np.testing.assert_allclose(golden["image_embedding"], model.embed_images(example_image())[0], atol=1e-5)
    assert golden["caption"] == model.caption(example_image(), strategy=Greedy(MAX_NEW_TOKENS)).text
    verify(model)
    verify(load(folder, device="cpu", dtype=torch.bfloat16))
    with torch.no_grad():
        model.network.projections["text"].weight[:8] *= -2
    with pytest.raises(ValueError, match="expected the recorded text_embedding, got one with cosine"):
        verify(model)
    model.card.pop("golden")
    with pytest.raises(ValueError, match="expected golden vectors"):
        verify(model)


def test_a_new_card_keeps_the_golden_vectors_and_the_contract(folder):
    card = load(folder, device="cpu").card
    update_card(folder, {"about": "new", "figures": {"top-1": 0.5}, "limits": ["one", "two"]})
    assert load(folder, device="cpu").card == {
        **{"golden": card["golden"], "contract": card["contract"]},
        **{"about": "new", "figures": {"top-1": 0.5}, "limits": ["one", "two"]},
    }
    assert "contract" in json.loads((folder / "config.json").read_text())["card"]
    text = (folder / "README.md").read_text()
    assert "# written" in text
    assert "| top-1 | 0.5 |" in text
    assert "- two" in text
    assert "golden" not in text.lower()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"format": "other"}, "expected format 'multimodal-2' .*, got 'other'"),
        ({"format": "multimodal-1"}, "expected format 'multimodal-2' .*, got 'multimodal-1'"),
        ({"extra": 1}, "expected format 'multimodal-2' with .*, got .*'extra'"),
        ({"weights_sha256": "0" * 64}, "expected sha256 0000"),
        ({"weights_sha256": None}, "expected sha256 None"),
        ({"inputs": []}, r"inputs: expected a table, got \[\]"),
        ({"inputs.image": {"image_size": 48}}, "contract.image.image_size: expected 32 as saved, got 48"),
        ({"inputs.image": {"blur": 1}}, "blur"),
        ({"inputs.image": {"kind": "smell"}}, r"inputs.image.kind: expected one of .*, got 'smell'"),
        ({"model": {"depth": 3}}, r"model: expected keys among .*\['depth'\]"),
        ({"model": {"kind": "oracle"}}, r"model.kind: expected one of .*, got 'oracle'"),
        ({"model": {"embed_dim": 8}}, r"projections.image.weight: expected \(8, 32\), got \(16, 32\)"),
        ({"inputs.text": {"kind": "clip"}}, "inputs.text"),
        ({"inputs.text": {"context_length": 65}}, "contract.text.context_length: expected 64 as saved, got 65"),
    ],
)
def test_a_contradiction_is_refused(folder, keys, message):
    change(folder, **keys)
    with pytest.raises(ValueError, match=message):
        load(folder, device="cpu")


@pytest.mark.parametrize(
    ("place", "keys", "message"),
    [
        ("model.encoders.image", {"activation": "quick_gelu"}, "image.activation: expected 'gelu' as saved"),
        ("model.encoders.text", {"activation": "gelu_tanh"}, "text.activation: expected 'gelu' as saved"),
        ("model.encoders.image", {"pooling": "avg"}, "image.pooling: expected 'token' as saved, got 'avg'"),
        ("inputs.image", {"mean": [0.4, 0.5, 0.5]}, r"image.mean: expected \[0.5, 0.5, 0.5\] as saved"),
        ("inputs.image", {"std": [1, 1, 1]}, r"image.std: expected \[0.25, 0.25, 0.25\] as saved"),
        ("inputs.image", {"resize": "squash"}, "image.resize: expected 'crop' as saved, got 'squash'"),
        ("inputs.text", {"context_length": 32}, "text.context_length: expected 64 as saved, got 32"),
    ],
)
def test_an_edited_config_contradicts_the_stored_contract(folder, place, keys, message):
    change(folder, **{place: keys})
    with pytest.raises(ValueError, match=rf"contract\.{message}"):
        load(folder, device="cpu")
    table = json.loads((folder / "config.json").read_text())
    table["card"].pop("contract")  # a card without one is not compared
    (folder / "config.json").write_text(json.dumps(table))
    if keys != {"pooling": "avg"}:  # the weights contradict it
        assert "contract" in load(folder, device="cpu").card


def test_other_special_ids_contradict_the_stored_contract(tmp_path, make_model):
    """The config has the special ids of a tokenizer.json."""
    made = make_model(seed=3, decoder=False)
    settings = HFSettings(64, pad_id=0, bos_id=1, eos_id=made.tokenizer.eos_id, vocab_size=made.tokenizer.vocab_size)
    definition = made.tokenizer.files()["tokenizer.json"].decode()
    inputs = made.inputs | {"text": HFTokenizer(definition, settings)}
    save_folder(tmp_path / "hf", "hf", made.network, inputs, {})
    assert load(tmp_path / "hf", device="cpu").card["contract"]["text"]["pad_id"] == 0
    change(tmp_path / "hf", **{"inputs.text": {"pad_id": 5}})
    with pytest.raises(ValueError, match=r"contract\.text\.pad_id: expected 0 as saved, got 5"):
        load(tmp_path / "hf", device="cpu")


def test_a_model_saved_again_has_a_new_contract(written, tmp_path):
    """The hash of its weights differs, and the golden vectors belong to the rounded weights."""
    model = load_exact(written[0])
    save_folder(tmp_path / "again", "again", model.network, model.inputs, model.card, dtype=None)
    again = load(tmp_path / "again", device="cpu", verify=True)
    assert again.card["contract"]["weights_sha256"] != model.card["contract"]["weights_sha256"]
    data = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again.card["contract"]["weights_sha256"] == hashlib.sha256(data).hexdigest()


def test_weights_that_do_not_match_are_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    put_tensors(folder, {name: tensor for name, tensor in tensors.items() if not name.endswith("logit_scale")})
    with pytest.raises(ValueError, match=r"missing \['logit_scale'\], unknown \[\]"):
        load(folder, device="cpu")
    put_tensors(folder, tensors | {"spare": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"missing \[\], unknown \['spare'\]"):
        load(folder, device="cpu")


@pytest.mark.parametrize("data", [b"", b"\x80\x04.", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"])
def test_damaged_weights_are_refused(folder, data):
    (folder / "model.safetensors").write_bytes(data)
    change(folder, weights_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ValueError, match=r"model\.safetensors: (expected a safetensors header|damaged .*SafetensorE)"):
        load(folder, device="cpu")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 99999, b"\xff\xfe", b'{"format": "multimodal-2"}'])
def test_damaged_configs_are_refused(folder, data):
    (folder / "config.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"config\.json: expected"):
        load(folder, device="cpu")


def test_missing_files_are_named(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected model\.safetensors"):
        load(folder, device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected a model folder with config\.json"):
        load(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"expected a folder, a file, one of \['small'\].*, got 'ViT-Z'"):
        load("ViT-Z")


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device().type == best
    with pytest.raises(ValueError, match=r"expected 'cpu', 'cuda', .* got 'abacus'"):
        choose_device("abacus")


def test_another_transform_is_another_space(written):
    folder, model = written
    other = load(folder, device="cpu")
    other.inputs["image"] = ImageTransform(32, mean=(0.4, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert other.fingerprint != model.fingerprint
