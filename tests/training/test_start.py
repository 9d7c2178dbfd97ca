"""What a run takes from the model that it starts with, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import multimodal as mm
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import DualEncoderConfig, build_model
from multimodal.preprocess import BPESettings, HFSettings, HFTokenizer, ImageTransform
from multimodal.preprocess.preprocessor import PREPROCESSORS
from multimodal.training import run_config, train
from multimodal.training.start import with_tokenizer
from multimodal.zoo import convert, save_folder
from tests.training.conftest import table
from tests.zoo.checkpoints import KINDS
from tests.zoo.formats.test_transformers_clip import siglip

TOWER = {"width": 32, "layers": 1, "heads": 2}
HALF = (0.5, 0.5, 0.5)
TRANSFORMS = [
    ImageTransform(32, HALF, HALF, "squash", "bilinear"),
    ImageTransform(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "pad"),
    ImageTransform(32, resize="crop_floor", interpolation="bilinear"),
    ImageTransform(32, HALF, HALF),
    ImageTransform(32, (0, 0, 0), (1, 1, 1), "squash"),
    ImageTransform(32),
]
UNMOVED = {
    "steps": 1,
    "batch_size": 4,
    "objective": [{"kind": "contrastive"}],
    "optimizer": {"lr": 0.0, "muon": False},
    "inputs": {},
}


def test_the_network_reads_what_the_tokenizer_writes():
    encoders = {"image": ImageEncoderConfig(image_size=32), "text": TextEncoderConfig()}
    config = DualEncoderConfig(encoders=encoders, embed_dim=16)
    tokenizer = BPESettings(12, 300).train(["a cat"])
    text = with_tokenizer(config, tokenizer).encoders["text"]
    assert (text.vocab_size, text.context_length, text.eos_id) == (tokenizer.vocab_size, 12, 2)
    endless = HFTokenizer(tokenizer.tokenizer_json, HFSettings(12, pad_id=0))
    with pytest.raises(ValueError, match="expected one with an eos_id, which marks the end of a text, got none"):
        with_tokenizer(config, endless)


def make_start(folder: Path, transform: ImageTransform, image: dict[str, Any] | None = None, **options: Any) -> Path:
    """A model folder with random weights and a tokenizer of its own."""
    tokenizer = BPESettings(80, 300).train(["a red circle", "a blue square on the left"])
    encoders = {
        "image": ImageEncoderConfig(image_size=32, patch_size=16, **TOWER, **(image or {})),
        "text": TextEncoderConfig(**TOWER),
    }
    torch.manual_seed(1)
    config = with_tokenizer(DualEncoderConfig(encoders=encoders, embed_dim=16, **options), tokenizer)
    save_folder(folder, "start", build_model(config), {"image": transform, "text": tokenizer}, {})
    return folder


def model_table(size: int = 32, **image: Any) -> dict[str, Any]:
    """The [model] table that repeats the model of `make_start`."""
    encoders = {
        "image": {"kind": "vit", "image_size": size, "patch_size": 16, **TOWER, **image},
        "text": {"kind": "text", **TOWER},
    }
    return {"kind": "dual_encoder", "embed_dim": 16, "encoders": encoders}


def run(tmp_path: Path, shapes: Path, start: Path | str, **changes: Any) -> Path:
    """Train with a learning rate of 0. Without `model`, the run takes the config of the start model."""
    values = table(**(UNMOVED | {"start_from": str(start)} | changes))
    if "model" not in changes:
        del values["model"]
    return train(run_config(values), tmp_path / "run", shapes, device="cpu")


def opened(folder: Path | str) -> mm.Model:
    return mm.load(folder, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
@pytest.mark.parametrize("given", [False, True])
def test_what_a_model_says_of_its_inputs_travels(transform, given, shapes, tmp_path, photos):
    folder = make_start(tmp_path / "start", transform, logit_scale=5.2, logit_bias=-12.5)
    start = opened(folder)
    trained = run(tmp_path, shapes, folder, **({"model": model_table()} if given else {}))
    for path in (trained, convert(trained, tmp_path / "converted")):
        model = opened(path)
        assert model.transform == transform
        assert model.tokenizer.fingerprint == start.tokenizer.fingerprint
        assert model.logit_scale == start.logit_scale == pytest.approx(5.2)
        assert float(model.network.logit_bias) == -12.5
        cosine = (model.embed_images(photos) * start.embed_images(photos)).sum(1)
        assert float(cosine.min()) > 0.9999
        texts = ["a red circle", "something else"]
        assert torch.allclose(model.embed_texts(texts), start.embed_texts(texts), atol=1e-5)
    assert opened(trained).fingerprint == start.fingerprint


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    from PIL import Image

    paths = [tmp_path / f"{width}x{height}.png" for width, height in ((90, 40), (40, 90), (64, 64))]
    for path in paths:
        width, height = map(int, path.stem.split("x"))
        Image.linear_gradient("L").resize((width, height)).rotate(30).convert("RGB").save(path)
    return paths


SQUASH = {"kind": "image", "image_size": 32, "mean": HALF, "std": HALF, "resize": "squash", "interpolation": "bilinear"}
CONTRADICTIONS = [
    ({"inputs": {"image": {"kind": "image", "image_size": 32}}}, r"inputs.image.mean: expected \[0.5, .* got \[0.48"),
    ({"inputs": {"image": SQUASH | {"resize": "crop"}}}, "inputs.image.resize: expected 'squash' .* got 'crop'"),
    ({"inputs": {"image": SQUASH | {"std": (1, 1, 1)}}}, "inputs.image.std: expected"),
    ({"inputs": {"image": SQUASH | {"interpolation": "bicubic"}}}, "inputs.image.interpolation: expected 'bilinear'"),
    ({"inputs": {"image": SQUASH | {"image_size": 48}}}, "inputs.image.image_size: expected 32 .* got 48"),
    ({"inputs": {"text": {"kind": "clip"}}}, "inputs.text.kind: expected 'hf' as in start_from, .* got 'clip'"),
    ({"inputs": {"text": {"kind": "bpe", "vocab_size": 300}}}, "inputs.text.kind: expected 'hf'"),
    ({"inputs": {"text": {"kind": "hf", "context_length": 9, "pad_id": 0}}}, "context_length: expected 80 .* got 9"),
    (
        {"model": model_table(activation="quick_gelu")},
        "model.encoders.image.activation: expected 'gelu' as in start_from, .* got 'quick_gelu'",
    ),
    ({"model": model_table(heads=4)}, "model.encoders.image.heads: expected 2 as in start_from, .* got 4"),
    ({"model": model_table(eps=1e-5)}, "model.encoders.image.eps: expected 1e-06 as in start_from"),
    ({"model": model_table(patch_size=8)}, "model.encoders.image.patch_size: expected 16 as in start_from"),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS)
def test_a_run_file_that_contradicts_its_start_is_refused(changes, message, shapes, tmp_path):
    start = make_start(tmp_path / "start", TRANSFORMS[0])
    with pytest.raises(ValueError, match=message):
        run(tmp_path, shapes, start, **changes)


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": SQUASH},
        {"image": {"kind": "image", "image_size": 32}, "change": True},
        {"image": SQUASH | {"resize": "pad"}, "change": True},
        {"image": SQUASH | {"mean": (0, 0, 0)}, "change": True},
        {"image": SQUASH | {"interpolation": "bicubic"}, "change": True},
    ],
)
def test_inputs_that_agree_or_are_changed_on_purpose(inputs, shapes, tmp_path):
    start = make_start(tmp_path / "start", TRANSFORMS[0])
    changes = {"change_inputs": inputs.get("change", False), "inputs": {"image": inputs["image"]}}
    model = opened(run(tmp_path, shapes, start, **changes))
    assert model.transform == PREPROCESSORS.from_dict(inputs["image"])
    assert model.tokenizer.fingerprint == opened(start).tokenizer.fingerprint


def test_tokenizers_that_agree_or_are_changed_on_purpose(shapes, tmp_path):
    start = make_start(tmp_path / "start", TRANSFORMS[0])
    stated = opened(start).tokenizer.to_dict()
    assert opened(run(tmp_path / "same", shapes, start, inputs={"text": stated})).tokenizer.to_dict() == stated
    bpe = {"kind": "bpe", "vocab_size": stated["vocab_size"], "context_length": 80}
    changed = run(tmp_path / "other", shapes, start, inputs={"text": bpe}, change_inputs=True)
    assert opened(changed).tokenizer.fingerprint != opened(start).tokenizer.fingerprint
    # A table of a trained tokenizer stands for the tokenizer that it gave: here the one of `changed`.
    again = run(tmp_path / "again", shapes, changed, inputs={"text": bpe})
    assert opened(again).tokenizer.fingerprint == opened(changed).tokenizer.fingerprint
    wide = bpe | {"context_length": 99}  # more than the text encoder reads
    with pytest.raises(ValueError, match=r"inputs.text.context_length: expected at most 80, got 99"):
        run(tmp_path / "wide", shapes, start, inputs={"text": wide}, change_inputs=True)
    large = bpe | {"vocab_size": 400}
    with pytest.raises(ValueError, match=r"inputs.text.vocab_size: expected \d+ as in the model, got 400"):
        run(tmp_path / "large", shapes, start, inputs={"text": large}, change_inputs=True)


def test_another_image_size_interpolates_the_positions(shapes, tmp_path, photos):
    start = make_start(tmp_path / "start", TRANSFORMS[0])
    trained = opened(run(tmp_path, shapes, start, model=model_table(64)))
    assert trained.transform == replace(TRANSFORMS[0], image_size=64)
    expected = mm.load(start, device="cpu", dtype=torch.float32, image_size=64, interpolate_positions=True)
    cosine = (trained.embed_images(photos) * expected.embed_images(photos)).sum(1)
    assert float(cosine.min()) > 0.9999


@pytest.mark.parametrize("size", [48, 64, 96])
def test_stages_of_a_model_that_the_run_file_leaves_out(size, shapes, tmp_path):
    start = make_start(tmp_path / "start", TRANSFORMS[1])
    assert opened(run(tmp_path, shapes, start, stages=[{"steps": 1, "image_size": size}])).transform == TRANSFORMS[1]
    with pytest.raises(ValueError, match=r"stages\[0\].image_size: expected a multiple of patch_size 16, got 40"):
        run(tmp_path / "b", shapes, start, stages=[{"steps": 1, "image_size": 40}])


def test_names_that_load_takes(shapes, tmp_path, monkeypatch):
    shipped = mm.load("small", device="cpu", dtype=torch.float32)
    trained = opened(run(tmp_path / "a", shapes, "small"))
    assert trained.fingerprint == shipped.fingerprint
    assert trained.can == shipped.can
    make_start(tmp_path / "home" / "mine", TRANSFORMS[0])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for number, name in enumerate(["~/mine", (tmp_path / "home" / "mine").as_uri(), str(tmp_path / "home" / "mine")]):
        assert opened(run(tmp_path / str(number), shapes, name)).transform == TRANSFORMS[0]
    for name in ("~/nothing", "nothing", str(tmp_path)):
        with pytest.raises((ValueError, FileNotFoundError)):
            run(tmp_path / "c", shapes, name)
    with pytest.raises(ValueError, match=r"model: expected a \[model\] table or start_from, got neither"):
        run_config({key: value for key, value in table().items() if key != "model"})


SAVED = KINDS | {"siglip": lambda folder: siglip(folder, "t5")}


@pytest.mark.filterwarnings("ignore:.* texts are longer than")
@pytest.mark.parametrize("kind", ["clip", "open_clip", "open_clip tower", "captioner", "matcher", "siglip"])
def test_checkpoints_of_other_libraries(kind, shapes, tmp_path, photos):
    SAVED[kind](tmp_path / "start")
    before = opened(tmp_path / "start")
    objective = {"siglip": "sigmoid", "captioner": "captioning"}.get(kind, "contrastive")
    after = opened(run(tmp_path, shapes, tmp_path / "start", objective=[{"kind": objective}]))
    assert after.transform == before.transform
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert after.can == before.can
    if "search" in before.can and kind != "open_clip tower":  # whose batch norms move with every batch
        assert after.logit_scale == before.logit_scale
        assert getattr(after.network, "logit_bias", None) == getattr(before.network, "logit_bias", None)
        cosine = (after.embed_images(photos) * before.embed_images(photos)).sum(1)
        assert float(cosine.min()) > 0.999  # the weights of the run are stored in bfloat16


def test_a_scale_above_the_limit_is_not_cut(shapes, tmp_path):
    start = make_start(tmp_path / "start", TRANSFORMS[0], logit_scale=5.2)
    optimizer = {"lr": 0.05, "muon": False, "warmup": 0}
    model = opened(run(tmp_path, shapes, start, optimizer=optimizer, steps=2))
    assert 5.05 < model.logit_scale <= opened(start).logit_scale
