"""Learned scalars keep float32 in narrower models, and weights that are not numbers are refused by name."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig, TimmConfig
from multimodal.model import Model
from multimodal.models import BlipMatcherConfig, CoCaConfig, DualEncoderConfig, build_model, cast
from multimodal.preprocess import ClipTokenizer, ImageTransform
from multimodal.training.config import OptimizerConfig
from multimodal.training.optimizer import MasterWeights, make_optimizer
from multimodal.zoo import CheckpointError, convert, load, load_folder, save_folder

TINY = {"width": 16, "heads": 2, "layers": 1}
IMAGE = ImageEncoderConfig(image_size=32, patch_size=16, **TINY)
TEXT = TextEncoderConfig(context_length=16, **TINY)
SCALARS = [(math.log(100), None), (4.7123, -16.771), (2.6593, -9.987), (-3.3333, 0.1), (0.0123, 7.77)]
NARROW = [torch.bfloat16, torch.float16]


def network(scale=4.7123, bias=-16.771, **parts):
    torch.manual_seed(0)
    encoders = {"image": IMAGE, "text": TEXT} | parts
    return build_model(DualEncoderConfig(encoders=encoders, embed_dim=8, logit_scale=scale, logit_bias=bias))


def model(built):
    return Model(built, {"image": ImageTransform(32), "text": ClipTokenizer(16)})


def kept(model, scale, bias):
    assert abs(model.logit_scale - scale) < 1e-6
    assert (model.network.logit_bias is None) == (bias is None)
    assert bias is None or abs(model.network.logit_bias.item() - bias) < 2e-6


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize(("scale", "bias"), SCALARS)
def test_scalars_are_kept(scale, bias, dtype, tmp_path):
    first = model(network(scale, bias))
    save_folder(tmp_path / "a", "a", first.network, first.inputs, {}, dtype)
    first.to(dtype=dtype)
    narrow = load(tmp_path / "a", device="cpu", dtype=dtype)
    save_folder(tmp_path / "b", "b", narrow.network, narrow.inputs, {}, dtype=None)
    convert(tmp_path / "b", tmp_path / "c", dtype)
    for each in (first, narrow, load(tmp_path / "b", device="cpu"), load(tmp_path / "c", dtype=dtype, device="cpu")):
        kept(each, scale, bias)
    assert narrow.dtype == first.dtype == dtype
    kept(first.to(dtype=torch.float32), scale, bias)
    wide = model(network(scale, bias)).to(dtype=torch.float64)
    assert wide.network.logit_scale.dtype == torch.float64


def test_a_loaded_model_of_another_library_keeps_its_scalars(checkpoint):
    for kind in ("clip", "open_clip", "open_clip tower", "matcher"):
        wide, narrow = (load(checkpoint(kind), device="cpu", dtype=d) for d in (torch.float32, torch.bfloat16))
        assert narrow.logit_scale == wide.logit_scale == wide.to(dtype=torch.bfloat16).logit_scale


class Gated(nn.Module):
    """Gates as in Flamingo, tied and in a list, and a statistic."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor(0.12345678))
        self.tied = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
        self.tied["b"].weight = self.tied["a"].weight
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("temperature", torch.tensor(0.07123456), persistent=False)

    def forward(self, x):
        return self.norm(self.tied["b"](self.tied["a"](x)) * self.gate.tanh()) / self.temperature


def test_cast_keeps_scalars_ties_and_counts():
    gated = Gated().eval()
    before = gated.gate.item(), gated.temperature.item()
    cast(gated, torch.bfloat16)
    assert (gated.gate.item(), gated.temperature.item()) == before
    assert gated.tied["a"].weight is gated.tied["b"].weight
    assert gated.tied["a"].weight.dtype == gated.norm.running_mean.dtype == torch.bfloat16
    assert gated.norm.num_batches_tracked.dtype == torch.int64
    assert gated(torch.ones(3, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
    cast(gated)
    assert gated.gate.dtype == torch.float32


DECODER = TextDecoderConfig(context_length=16, **TINY)
ENCODERS = {"encoders": {"image": IMAGE, "text": TEXT}, "embed_dim": 8}
NETWORKS = {
    "dual encoder": lambda: network(),
    "CoCa": lambda: build_model(CoCaConfig(**ENCODERS, decoder=DECODER)),
    "BLIP": lambda: build_model(BlipMatcherConfig(**ENCODERS)),
    "timm": lambda: network(image=TimmConfig(name="test_vit", image_size=32)),
    "timm with gates": lambda: network(image=TimmConfig(name="dm_nfnet_f0", image_size=32)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_with_mixed_types(name):
    built = NETWORKS[name]()
    scalars = {key: p.item() for key, p in built.named_parameters() if p.ndim == 0}
    found = model(built).to(dtype=torch.bfloat16)
    image, text = found.embed_images(torch.zeros(3, 32, 32)), found.embed_texts("a cat")
    assert image.isfinite().all()
    assert text.isfinite().all()
    assert len(scalars) > 10 or name != "timm with gates"
    assert scalars == {key: p.item() for key, p in found.network.named_parameters() if p.ndim == 0}


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_training_moves_scalars_in_float32(dtype):
    built = network()
    masters = MasterWeights(built, dtype)
    optimizer = make_optimizer(masters.masters, set(), OptimizerConfig(lr=1e-5))
    assert built.logit_scale.dtype == torch.float32
    for _ in range(3):  # steps far below the resolution of the narrow type
        before = built.logit_scale.item()
        (built.logit_scale.exp() + built.logit_bias + 0 * built.projections["image"].weight.sum().float()).backward()
        masters.pull_gradients()
        optimizer.step()
        masters.push_weights()
        assert 0 < before - built.logit_scale.item() < 1e-4
    last = built.logit_scale.item()
    masters.release()
    assert built.logit_scale.item() == last


# Weights that are not numbers


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", ["clip", "open_clip", "captioner", "matcher", "answerer"])
def test_weights_that_are_not_numbers(kind, place, value, copied):
    folder = copied(kind)
    file = next(folder.glob("*.safetensors"))
    weights = load_file(file)
    name = sorted(n for n in weights if weights[n].ndim > 1)[0 if place == "first" else -1]
    weights[name].view(-1)[0 if place == "first" else -1] = value
    save_file(weights, file)
    with pytest.raises(CheckpointError, match=r"weights: expected finite numbers in .*, got NaN or infinity in \w"):
        load(folder, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("name", ["logit_scale", "logit_bias", "projections.text.weight", "encoders.image.positions"])
@pytest.mark.parametrize("dtype", [torch.float32, *NARROW], ids=str)
def test_a_diverged_run(name, dtype, tmp_path):
    broken = network()
    with torch.no_grad():
        dict(broken.named_parameters())[name].view(-1)[-1] = math.nan
    inputs = model(network()).inputs
    with pytest.raises(CheckpointError, match=rf"got NaN or infinity in {name}"):
        save_folder(tmp_path / "a", "a", broken, inputs, {})  # which loads it, for the golden vectors
    with pytest.raises(CheckpointError, match=rf"expected finite numbers in {dtype}, got NaN or infinity in {name}"):
        load_folder(tmp_path / "a", torch.device("cpu"), dtype)


def test_numbers_beyond_the_range_of_the_type(tmp_path):
    first = model(network())
    with torch.no_grad():
        first.network.encoders["text"].embedding.weight[7, 0] = 1e5
    save_folder(tmp_path / "a", "a", first.network, first.inputs, {}, dtype=None)
    load(tmp_path / "a", device="cpu", dtype=torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"numbers in torch\.float16.* in encoders\.text\.embedding\.weight"):
        load(tmp_path / "a", device="cpu", dtype=torch.float16)
