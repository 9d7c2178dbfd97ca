"""Model folders: what goes in comes out, and what does not fit is refused by name."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from multimodal.models import DualEncoderConfig, network_config
from multimodal.preprocess import ImageTransform
from multimodal.zoo import choose_device, load, save_folder, update_card, verify
from multimodal.zoo.golden import WORDS, picture


@pytest.fixture(scope="module")
def written(make_model, tmp_path_factory):
    """A model folder, and the model that was written into it."""
    from multimodal.models import CaptionerConfig

    model = make_model(seed=3, name="written")
    folder = tmp_path_factory.mktemp("zoo") / "written"
    dual = model.network.dual
    config = CaptionerConfig(
        dual.image_encoder.config, dual.text_encoder.config, 16, decoder=model.network.decoder.config
    )
    save_folder(folder, "written", model.network, config, model.transform, model.tokenizer, {"about": "x"})
    return folder, model


@pytest.fixture
def folder(written, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(written[0], tmp_path / "copy")


def change(folder, **keys):
    table = json.loads((folder / "config.json").read_text())
    for key, value in keys.items():
        if isinstance(value, dict):
            table[key] |= value
        else:
            table[key] = value
    (folder / "config.json").write_text(json.dumps(table))


def put(folder, tensors):
    data = save(tensors)
    (folder / "model.safetensors").write_bytes(data)
    change(folder, weights_sha256=hashlib.sha256(data).hexdigest(), card={"contract": {}})


def test_a_loaded_model_is_the_written_one_rounded(written):
    folder, model = written
    loaded = load(folder, device="cpu")
    for (name, ours), theirs in zip(
        loaded.network.named_parameters(), model.network.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs.to(torch.bfloat16).float()), name
    assert (loaded.name, loaded.can, loaded.card["about"]) == ("written", model.can, "x")
    assert loaded.transform == model.transform
    assert loaded.fingerprint == model.fingerprint  # which counts weights as rounded
    assert loaded.dtype == torch.float32
    assert load(folder, device="cpu", dtype=torch.bfloat16).dtype == torch.bfloat16
    assert {path.name for path in folder.iterdir()} == {
        *("model.safetensors", "config.json", "tokenizer.json", "README.md")
    }


def test_golden_vectors_are_those_of_the_model_and_tell_another(written, folder):
    model = load(folder, device="cpu")
    golden = model.card["golden"]
    np.testing.assert_allclose(golden["image_embedding"], model.embed_images(picture())[0], atol=1e-5)
    assert golden["caption"] == model.caption(picture(), max_new_tokens=WORDS).text
    verify(model)
    verify(load(folder, device="cpu", dtype=torch.bfloat16))
    with torch.no_grad():
        model.dual.text_projection.weight[:8] *= -2
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
        ({"format": "other"}, "expected format 'multimodal-1'"),
        ({"extra": 1}, "expected format 'multimodal-1' with .*, got .*'extra'"),
        ({"weights_sha256": "0" * 64}, "expected sha256 0000"),
        ({"weights_sha256": None}, "expected sha256 None"),
        ({"transform": {"image_size": 48}}, "contract: image size: expected 32, as it was saved, got 48"),
        ({"transform": {"blur": 1}}, "blur"),
        ({"model": {"depth": 3}}, r"model: expected keys among .*\['depth'\]"),
        ({"model": {"embed_dim": 8}}, r"expected dual.image_projection.weight \(8, 32\), got \(16, 32\)"),
        ({"tokenizer": {"kind": "clip"}}, "tokenizer"),
        (
            {"tokenizer": {"context_length": 65}},
            "contract: context length: expected 64, as it was saved, got 65",
        ),
    ],
)
def test_a_contradiction_is_refused(folder, keys, message):
    change(folder, **keys)
    with pytest.raises(ValueError, match=message):
        load(folder, device="cpu")


@pytest.mark.parametrize(
    ("part", "keys", "message"),
    [
        (
            "image",
            {"activation": "quick_gelu"},
            "activation of the image tower: expected 'gelu', as it was saved, got",
        ),
        (
            "text",
            {"activation": "gelu_tanh"},
            "activation of the text tower: expected 'gelu', as it was saved, got",
        ),
        ("image", {"pooling": "avg"}, "pooling of images: expected 'token', as it was saved, got 'avg'"),
        (
            "transform",
            {"mean": [0.4, 0.5, 0.5]},
            r"mean: expected \[0.5, 0.5, 0.5\], as it was saved, got \[0.4,",
        ),
        ("transform", {"std": [1, 1, 1]}, r"std: expected \[0.25, 0.25, 0.25\], as it was saved, got"),
        (
            "transform",
            {"resize": "squash"},
            "resize: expected 'crop, bicubic', as it was saved, got 'squash, bicubic'",
        ),
        ("tokenizer", {"context_length": 32}, "context length: expected 64, as it was saved, got 32"),
    ],
)
def test_an_edited_config_contradicts_the_stored_contract(folder, part, keys, message):
    table = json.loads((folder / "config.json").read_text())
    place = table["model"][part] if part in table["model"] else table[part]
    place |= keys
    (folder / "config.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match=f"contract: .*{message}"):
        load(folder, device="cpu")
    table["card"].pop("contract")  # of an older folder: what is not stored is only computed
    (folder / "config.json").write_text(json.dumps(table))
    if keys != {"pooling": "avg"}:  # the weights say so
        assert "contract" in load(folder, device="cpu").card


def test_other_special_ids_contradict_the_stored_contract(tmp_path, make_model):
    """Those of a tokenizer.json are in the config."""
    from multimodal.preprocess import HFSettings, HFTokenizer

    made = make_model(seed=3, decoder=False)
    definition = made.tokenizer.files()["tokenizer.json"].decode()
    ids = HFSettings(
        64, pad_id=0, bos_id=1, eos_id=made.tokenizer.eos_id, vocab_size=made.tokenizer.vocab_size
    )
    config = DualEncoderConfig(made.dual.image_encoder.config, made.dual.text_encoder.config, 16)
    tokenizer = HFTokenizer(definition, ids)
    save_folder(tmp_path / "hf", "hf", made.network, config, made.transform, tokenizer, {})
    assert load(tmp_path / "hf", device="cpu").card["contract"]["bos, eos and padding"][2] == 0
    change(tmp_path / "hf", tokenizer={"pad_id": 5})
    with pytest.raises(
        ValueError,
        match=r"contract: bos, eos and padding: expected .*2, 0\], as .* got .*2, 5\]",
    ):
        load(tmp_path / "hf", device="cpu")


def test_what_is_written_again_has_a_contract_of_its_own(written, tmp_path):
    """Its weights have another hash, and the golden vectors are those of what was rounded."""
    model = load(written[0], device="cpu")
    config = network_config(json.loads((written[0] / "config.json").read_text())["model"])
    parts = (model.network, config, model.transform, model.tokenizer)
    save_folder(tmp_path / "again", "again", *parts, model.card, dtype=None)
    again = load(tmp_path / "again", device="cpu", verify=True)
    sha256 = "sha256 of the weights"
    assert again.card["contract"][sha256] != model.card["contract"][sha256]
    data = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again.card["contract"][sha256] == hashlib.sha256(data).hexdigest()


def test_weights_that_are_not_the_models_are_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    put(folder, {name: tensor for name, tensor in tensors.items() if not name.endswith("logit_scale")})
    with pytest.raises(ValueError, match=r"\['dual.logit_scale'\] missing, \[\] spare"):
        load(folder, device="cpu")
    put(folder, tensors | {"spare": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"\[\] missing, \['spare'\] spare"):
        load(folder, device="cpu")


@pytest.mark.parametrize("data", [b"", b"\x80\x04.", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"])
def test_files_that_are_no_safetensors_are_refused(folder, data):
    (folder / "model.safetensors").write_bytes(data)
    change(folder, weights_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ValueError, match="expected safetensors"):
        load(folder, device="cpu")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 99999, b"\xff\xfe", b'{"format": "multimodal-1"}'])
def test_configs_that_are_none_are_refused(folder, data):
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
    with pytest.raises(
        FileNotFoundError, match=r"expected a folder, a file, one of \['small'\].*, got 'ViT-Z'"
    ):
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
    other.transform = ImageTransform(32, mean=(0.4, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert other.fingerprint != model.fingerprint
