"""A dual encoder is a composition: two towers, two projections, one scale."""

import math

import pytest
import torch
from torch import nn

from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import DualEncoder, DualEncoderConfig, build, network_config, network_table

IMAGE = ImageEncoderConfig(32, patch_size=16, width=32, layers=2, heads=2)
TEXT = TextEncoderConfig(50, 8, width=24, layers=2, heads=2, eos_id=49)


def two_linear_towers() -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(nn.Linear(6, 5), nn.Linear(4, 3), image_width=5, text_width=3, embed_dim=7)


def test_two_linear_towers_pass_through():
    model = two_linear_towers()
    images, texts = torch.randn(9, 6), torch.randn(9, 4)
    by_hand = [
        images @ model.image_encoder.weight.T + model.image_encoder.bias,
        texts @ model.text_encoder.weight.T + model.text_encoder.bias,
    ]
    by_hand[0] = by_hand[0] @ model.image_projection.weight.T
    by_hand[1] = by_hand[1] @ model.text_projection.weight.T
    torch.testing.assert_close(model.encode_image(images), by_hand[0])
    torch.testing.assert_close(model.encode_text(texts), by_hand[1])

    output = model(images, texts)
    for got, expected in zip(output[:2], by_hand, strict=True):
        torch.testing.assert_close(got, expected / expected.square().sum(1, keepdim=True).sqrt())
    torch.testing.assert_close(output.scale, torch.tensor(1 / 0.07))
    (output.scale * output.image_embeddings @ output.text_embeddings.T).logsumexp(1).sum().backward()
    assert all((p.grad != 0).any() for p in model.parameters())


@pytest.mark.parametrize("given", [0.0, 3.0, math.log(100), 5.0])
def test_the_scale_is_a_parameter_in_log_space(given):
    model = DualEncoder(nn.Identity(), nn.Identity(), 4, 4, 4, logit_scale=given)
    assert model.scale.item() == pytest.approx(math.exp(given), rel=1e-5)
    assert model.logit_scale.requires_grad


def test_a_bias_is_a_parameter_only_where_asked_for():
    without = DualEncoder(nn.Identity(), nn.Identity(), 4, 4, 4)
    model = DualEncoder(nn.Identity(), nn.Identity(), 4, 4, 4, logit_bias=-10)
    assert without.logit_bias is None
    assert set(model.state_dict()) - set(without.state_dict()) == {"logit_bias"}
    assert model.logit_bias.item() == -10


def test_from_a_table_and_back():
    config = DualEncoderConfig(IMAGE, TEXT, 16, logit_bias=-10.0)
    assert network_config(network_table(config)) == config
    model = build(config).eval()
    assert type(model) is DualEncoder
    images, tokens = torch.randn(2, 3, 32, 32), torch.randint(50, (2, 8))
    assert model.encode_image(images).shape == model.encode_text(tokens).shape == (2, 16)
    torch.testing.assert_close(
        model.encode_image(images), model.image_projection(model.image_encoder(images).pooled)
    )
    torch.testing.assert_close(
        model.encode_text(tokens), model.text_projection(model.text_encoder(tokens).pooled)
    )


def test_an_unknown_key_is_named():
    table = network_table(DualEncoderConfig(IMAGE, TEXT, 16))
    table["text"]["colour"] = 3
    with pytest.raises(ValueError, match="colour"):
        network_config(table)
