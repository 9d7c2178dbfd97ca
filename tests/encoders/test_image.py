"""Any timm ViT: the pooled vector is what timm itself gives, the features are its patches."""

import pytest
import timm
import torch

from multimodal.encoders import ImageEncoder, ImageEncoderConfig

SMALL = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 2, "heads": 2}


def make(**fields) -> ImageEncoder:
    torch.manual_seed(0)
    encoder = ImageEncoder(ImageEncoderConfig(**{**SMALL, **fields})).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",  # a class token
        "vit_base_patch32_clip_224",  # a norm before the blocks
        "vit_base_patch16_siglip_224",  # pools by attention, has no class token
    ],
)
def test_pooled_is_what_timm_gives(name):
    encoder = make(name=name)
    theirs = timm.create_model(
        name, pretrained=False, num_classes=0, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2
    ).eval()
    theirs.load_state_dict(encoder.vit.state_dict())
    images = torch.randn(3, 3, 32, 32)
    encoded = encoder(images)
    torch.testing.assert_close(encoded.pooled, theirs(images))
    assert encoded.features.shape == (3, 16, 24)
    assert encoded.padding_mask is None
    assert encoder.width == 24


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch32_clip_224"])
def test_average_pooling_is_the_mean_of_the_features(name):
    encoder = make(name=name, pooling="avg")
    encoded = encoder(torch.randn(3, 3, 32, 32))
    torch.testing.assert_close(encoded.pooled, encoded.features.mean(1))


def test_attention_pooling_looks_at_the_features():
    encoder = make(pooling="map")
    encoded = encoder(torch.randn(3, 3, 32, 32))
    torch.testing.assert_close(encoded.pooled, encoder.vit.attn_pool(encoded.features))


def test_token_pooling_is_the_class_token():
    encoder = make(pooling="token")
    images = torch.randn(3, 3, 32, 32)
    encoded = encoder(images)
    whole = encoder.vit.forward_features(images)
    torch.testing.assert_close(encoded.pooled, whole[:, 0])
    torch.testing.assert_close(encoded.features, whole[:, 1:])


def test_prefix_tokens_are_no_features():
    encoder = make(name="vit_small_patch14_reg4_dinov2")
    images = torch.randn(2, 3, 32, 32)
    assert encoder.vit.num_prefix_tokens == 5
    torch.testing.assert_close(encoder(images).features, encoder.vit.forward_features(images)[:, 5:])


def test_features_are_in_reading_order():
    encoder = make(layers=0)  # a patch sees only itself
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[:, :, 9, 30] += 5  # row 1, column 3 of the 4 x 4 patches
    moved = (encoder(images).features - encoder(changed).features)[0].norm(dim=-1) > 1e-6
    assert moved.nonzero().flatten().tolist() == [7]


def test_a_convolutional_stem_takes_the_place_of_the_patches():
    encoder = make(stem_channels=(4, 8), stem_depths=(1, 1, 0), pooling="avg")
    encoded = encoder(torch.randn(2, 3, 32, 32))
    assert encoded.features.shape == (2, 16, 24)
    assert any("patch_embed.layers" in name for name, _ in encoder.named_parameters())


def test_stochastic_depth_only_while_training():
    encoder = make(drop_path=0.9)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(encoder(images).pooled, encoder(images).pooled)
    encoder.train()
    assert not torch.equal(encoder(images).pooled, encoder(images).pooled)


def test_what_is_no_vit_is_refused():
    with pytest.raises(ValueError, match="expected the name of a timm ViT, got 'vit_of_my_own'"):
        ImageEncoder(ImageEncoderConfig("vit_of_my_own"))
    with pytest.raises(ValueError, match="expected a timm VisionTransformer, got a Eva"):
        ImageEncoder(ImageEncoderConfig("eva02_tiny_patch14_224"))
    with pytest.raises(ValueError, match="expected a timm ViT, got 'resnet18', which refuses"):
        ImageEncoder(ImageEncoderConfig("resnet18"))


def test_other_resolutions_have_their_positions_interpolated():
    torch.manual_seed(0)
    encoder = ImageEncoder(ImageEncoderConfig("vit_tiny_patch16_224", 32, 8, 24, 1, 2, "avg")).eval()
    assert encoder(torch.randn(2, 3, 48, 48)).features.shape == (2, 36, 24)
    flat = encoder(torch.zeros(1, 3, 32, 32)).features.mean(1)
    with torch.no_grad():  # where all positions are alike, so are all patches of a plain picture
        encoder.vit.pos_embed.fill_(0.3)
    small, large = (encoder(torch.zeros(1, 3, side, side)).pooled for side in (32, 64))
    torch.testing.assert_close(small, large, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(flat, small, atol=1e-2)
