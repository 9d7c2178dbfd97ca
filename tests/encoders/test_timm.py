"""Models of timm as encoders compared with timm's own forward pass."""

import pytest
import timm
import torch

from multimodal.encoders import ENCODERS, TimmConfig, TimmEncoder

# Convolutional, [B, h, w, W], transformers with and without a class token, and a head that widens the features
NAMES = [
    "test_resnet",
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_vit",
    "test_vit3",
    "test_vit_relpos",
    "mobilenetv3_small_050",
]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_outputs_equal_timms(name):
    torch.manual_seed(0)
    config = TimmConfig(name=name, image_size=160)
    encoder = ENCODERS.build(config).eval()
    assert (encoder.modality, encoder.config) == ("image", config)
    theirs = timm.create_model(name, pretrained=False, num_classes=0).eval()
    theirs.load_state_dict(encoder.tower.state_dict())
    images = torch.randn(2, 3, 160, 160)
    encoded = encoder(images)
    assert encoded.mask is None
    assert encoded.pooled.shape == (2, encoder.width)

    whole = theirs.forward_features(images)
    if whole.ndim == 3:
        expected = whole[:, theirs.num_prefix_tokens :]
    else:
        if name == "test_mambaout":
            whole = whole.permute(0, 3, 1, 2)
        expected = torch.stack([whole[:, :, y, x] for y in range(whole.shape[2]) for x in range(whole.shape[3])], 1)
    assert encoded.features.shape == (2, expected.shape[1], encoder.width)
    torch.testing.assert_close(encoded.features, expected)
    pooled = theirs(images)
    if pooled.shape[1] == encoder.width:
        torch.testing.assert_close(encoded.pooled, pooled)
    else:
        assert name in ("test_mambaout", "mobilenetv3_small_050")
        torch.testing.assert_close(encoded.pooled, expected.mean(1))


def test_features_are_in_reading_order():
    encoder = ENCODERS.build(TimmConfig(name="test_resnet", image_size=160)).eval()
    images = torch.randn(1, 3, 160, 160, requires_grad=True)
    features = encoder(images).features[0].unflatten(0, (5, 5))  # [h, w, W]
    [gradient] = torch.autograd.grad(features[1, 3].square().sum(), images)
    energy = gradient[0].square().sum(0)  # [160, 160]
    y, x = (energy.sum(axis) @ torch.arange(160.0) / energy.sum() for axis in (1, 0))
    assert (int(y) // 32, int(x) // 32) == (1, 3)


def test_a_table_names_the_model():
    config = TimmConfig(name="test_vit")
    assert ENCODERS.to_dict(config) == {"kind": "timm", "name": "test_vit", "image_size": 224}
    assert ENCODERS.from_dict({"kind": "timm", "name": "test_vit"}) == config
    with pytest.raises(ValueError, match="name: expected a model of timm, got 'resnet_of_nobody'"):
        TimmEncoder(TimmConfig(name="resnet_of_nobody"))
