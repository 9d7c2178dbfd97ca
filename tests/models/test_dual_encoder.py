"""A dual encoder is a composition: encoders of any modalities, a projection each, one scale."""

import math

import pytest
import torch
from torch import nn

from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import MODELS, DualEncoder, DualEncoderConfig, build_model

from .towers import LinearEncoder

IMAGE = ImageEncoderConfig(image_size=32, patch_size=16, width=32, layers=2, heads=2)
TEXT = TextEncoderConfig(vocab_size=50, context_length=8, width=24, layers=2, heads=2, eos_id=49)
CONFIG = DualEncoderConfig(encoders={"image": IMAGE, "text": TEXT}, embed_dim=16)


def linear_encoders(*modalities: str) -> dict[str, LinearEncoder]:
    """Inputs of 6, 7, ... numbers, widths of 5, 6, ..."""
    return {name: LinearEncoder(name, 6 + i, 5 + i) for i, name in enumerate(modalities)}


@pytest.mark.parametrize("modalities", [("image", "text"), ("signal", "text"), ("a", "b", "c"), ("text",)], ids=str)
def test_linear_encoders_of_any_modalities(modalities):
    torch.manual_seed(0)
    model = DualEncoder(linear_encoders(*modalities), embed_dim=7)
    assert model.modalities == modalities
    inputs = {name: torch.randn(9, 6 + i) for i, name in enumerate(modalities)}
    output = model(inputs)
    assert list(output) == list(modalities)
    for name, batch in inputs.items():
        linear = model.encoders[name].linear
        by_hand = (batch @ linear.weight.T + linear.bias) @ model.projections[name].weight.T
        torch.testing.assert_close(model.encode(name, batch), by_hand)
        torch.testing.assert_close(model.project(name, model.encoders[name](batch).pooled), by_hand)
        unit = by_hand / by_hand.square().sum(1, keepdim=True).sqrt()
        torch.testing.assert_close(model.encode(name, batch, normalize=True), unit)
        torch.testing.assert_close(output[name], unit)
    torch.testing.assert_close(model.logit_scale.exp(), torch.tensor(1 / 0.07))
    first, last = output[modalities[0]], output[modalities[-1]]
    (model.logit_scale.exp() * first @ last.T).logsumexp(1).sum().backward()
    used = [model.encoders[name] for name in (modalities[0], modalities[-1])]
    assert all((p.grad != 0).any() for encoder in used for p in encoder.parameters())
    assert model.logit_scale.grad != 0


def test_a_batch_may_lack_a_modality():
    model = DualEncoder(linear_encoders("signal", "text"), embed_dim=7)
    assert set(model({"text": torch.randn(2, 7)})) == {"text"}


@pytest.mark.parametrize("given", [0.0, 3.0, math.log(100), 5.0])
def test_the_scale_is_a_parameter_in_log_space(given):
    model = DualEncoder(linear_encoders("signal", "text"), 4, logit_scale=given)
    assert model.logit_scale.item() == pytest.approx(given)
    assert model.logit_scale.requires_grad


def test_the_logit_bias_is_optional():
    without = DualEncoder(linear_encoders("signal", "text"), 4)
    model = DualEncoder(linear_encoders("signal", "text"), 4, logit_bias=-10)
    assert without.logit_bias is None
    assert set(model.state_dict()) - set(without.state_dict()) == {"logit_bias"}
    assert model.logit_bias.item() == -10
    assert model.logit_bias.requires_grad


def test_projections_by_modality():
    encoders = linear_encoders("a", "b", "c")
    model = DualEncoder(encoders, 7, {"a": "affine", "c": "none"})  # c has a width of 7
    batch = torch.randn(3, 8)
    assert model.projections["a"].bias is not None
    assert model.projections["b"].bias is None
    assert isinstance(model.projections["c"], nn.Identity)
    torch.testing.assert_close(model.encode("c", batch), encoders["c"].linear(batch))


@pytest.mark.parametrize(
    ("projections", "message"),
    [
        ({"a": "none"}, "embed_dim: expected 5, the width of an encoder without projection, got 7"),
        ({"b": "mlp"}, r"projection: expected one of \('linear', 'affine', 'none'\), got 'mlp'"),
        ({"c": "linear"}, r"projections: expected some of \['a', 'b'\], got \['c'\]"),
    ],
)
def test_mistakes_in_projections(projections, message):
    with pytest.raises(ValueError, match=message):
        DualEncoder(linear_encoders("a", "b"), 7, projections)


def test_an_unknown_modality_is_refused():
    model = DualEncoder(linear_encoders("signal", "text"), 7)
    with pytest.raises(ValueError, match=r"modality: expected one of \['signal', 'text'\], got 'image'"):
        model.encode("image", torch.randn(2, 6))
    with pytest.raises(ValueError, match=r"encoders\.signal: expected an encoder of signal, got one of text"):
        build_model(DualEncoderConfig(encoders={"signal": TEXT}))


@torch.no_grad()
def test_a_built_model_is_its_parts():
    model = build_model(MODELS.from_dict(MODELS.to_dict(CONFIG))).eval()
    assert type(model) is DualEncoder
    assert model.config == CONFIG
    inputs = {"image": torch.randn(2, 3, 32, 32), "text": torch.randint(50, (2, 8))}
    for name, batch in inputs.items():
        expected = model.projections[name](model.encoders[name](batch).pooled)
        assert expected.shape == (2, 16)
        torch.testing.assert_close(model.encode(name, batch), expected)


def test_an_unknown_key_is_named_with_its_path():
    table = MODELS.to_dict(CONFIG)
    table["encoders"]["text"]["colour"] = 3
    with pytest.raises(ValueError, match=r"encoders\.text: expected keys among .*, got \['colour'\]"):
        MODELS.from_dict(table)
