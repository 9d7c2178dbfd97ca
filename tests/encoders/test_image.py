"""The image encoder compared with timm's ViT with the same weights."""

import pytest
import timm
import torch
from torch import Tensor, nn

from multimodal.encoders import ImageEncoder, ImageEncoderConfig
from tests.layers.peers import randomise

SMALL = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 2, "heads": 2}
# Our names and timm's, replaced in this order.
NAMES = (
    ("patches.", "patch_embed.proj."),
    ("class_token", "cls_token"),
    ("positions", "pos_embed"),
    ("norm_input.", "norm_pre."),
    ("pool.query", "attn_pool.latent"),
    ("pool.cross.q.", "attn_pool.q."),
    ("pool.cross.kv.", "attn_pool.kv."),
    ("pool.cross.out.", "attn_pool.proj."),
    ("pool.", "attn_pool."),
    ("attention.qkv.", "attn.qkv."),
    ("attention.out.", "attn.proj."),
    ("mlp.0.", "mlp.fc1."),
    ("mlp.2.", "mlp.fc2."),
)


def make(**fields) -> ImageEncoder:
    torch.manual_seed(0)
    return randomise(ImageEncoder(ImageEncoderConfig(**{**SMALL, **fields})), 0.1).eval()


def as_timm(encoder: ImageEncoder) -> dict[str, Tensor]:
    named = {}
    for key, value in encoder.state_dict().items():
        for ours, theirs in NAMES:
            if theirs not in key:
                key = key.replace(ours, theirs)
        added = {"pos_embed": 1, "cls_token": 2, "attn_pool.latent": 2}.get(key, 0)
        named[key] = value[(None,) * added]
    return named


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("vit_tiny_patch16_224", {}),  # a class token
        ("vit_base_patch32_clip_224", {"norm_input": True, "eps": 1e-5}),
        ("vit_base_patch32_clip_quickgelu_224", {"norm_input": True, "eps": 1e-5, "activation": "quick_gelu"}),
        ("vit_base_patch16_siglip_224", {"pooling": "map"}),
        ("vit_base_patch16_siglip_gap_224", {"pooling": "avg"}),
    ],
)
@pytest.mark.parametrize("side", [32, 48])
def test_outputs_equal_timms(name, fields, side):
    encoder = make(**fields)
    theirs = timm.create_model(
        name,
        pretrained=False,
        num_classes=0,
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=2,
        dynamic_img_size=True,
    ).eval()
    theirs.load_state_dict(as_timm(encoder))
    images = torch.randn(3, 3, side, side)
    encoded = encoder(images)
    torch.testing.assert_close(encoded.pooled, theirs(images))
    whole = theirs.forward_features(images)
    torch.testing.assert_close(encoded.features, whole[:, theirs.num_prefix_tokens :])
    assert encoded.features.shape == (3, (side // 8) ** 2, 24)
    assert encoded.mask is None
    assert encoder.width == 24


def test_initial_weights_have_timms_distributions():
    ours = ImageEncoder(ImageEncoderConfig(width=96, layers=4, pooling="avg")).blocks
    theirs = timm.create_model("vit_tiny_patch16_224", embed_dim=96, depth=4).blocks
    for name, parameter in theirs.named_parameters():
        for their_name, our_name in (
            ("attn.qkv", "attention.qkv"),
            ("attn.proj", "attention.out"),
            ("fc1", "0"),
            ("fc2", "2"),
        ):
            name = name.replace(their_name, our_name)
        found = ours.get_parameter(name)
        assert found.mean().item() == pytest.approx(parameter.mean().item(), abs=2e-3)
        assert found.std().item() == pytest.approx(parameter.std().item(), abs=1e-3)


def test_average_pooling_is_the_mean_of_the_features():
    encoded = make(pooling="avg")(torch.randn(3, 3, 32, 32))
    torch.testing.assert_close(encoded.pooled, encoded.features.mean(1))


def test_the_first_query_is_pooled_and_the_others_are_features():
    encoder = make(pooling="queries", queries=5, query_heads=2, query_width=16)
    assert encoder.width == 16
    encoded = encoder(torch.randn(3, 3, 32, 32))
    assert encoded.pooled.shape == (3, 16)
    assert encoded.features.shape == (3, 4, 16)


def test_queries_attend_to_the_patches_as_in_multihead_attention():
    """Queries and patches each have a norm; the class token is one of the patches."""
    encoder = make(pooling="queries", queries=5, query_heads=2, query_width=16, layers=1, norm_input=True)
    images, pool = torch.randn(3, 3, 32, 32), encoder.pool
    patches = []
    encoder.blocks[-1].register_forward_hook(lambda module, inputs, output: patches.append(output))
    encoded = encoder(images)
    assert patches[0].shape == (3, 17, 24)  # with the class token
    theirs = nn.MultiheadAttention(16, 2, kdim=24, vdim=24, batch_first=True)
    key, value = pool.cross.kv.weight.chunk(2)
    theirs.load_state_dict(
        {
            "q_proj_weight": pool.cross.q.weight,
            "k_proj_weight": key,
            "v_proj_weight": value,
            "in_proj_bias": torch.cat([pool.cross.q.bias, pool.cross.kv.bias]),
            "out_proj.weight": pool.cross.out.weight,
            "out_proj.bias": pool.cross.out.bias,
        }
    )
    memory = pool.cross.norm_memory(patches[0])
    expected = pool.norm(theirs(pool.norm_queries(pool.queries).repeat(3, 1, 1), memory, memory)[0])
    torch.testing.assert_close(torch.cat([encoded.pooled[:, None], encoded.features], 1), expected)


def test_crop_to_patches_drops_the_pixels_beyond_the_last_whole_patch():
    """As timm's SigLIP so400m/14 does at 384 pixels."""
    encoder = make(pooling="map", image_size=37, crop_to_patches=True)
    theirs = timm.create_model(
        "vit_base_patch16_siglip_224",
        pretrained=False,
        num_classes=0,
        img_size=37,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=2,
    ).eval()
    theirs.load_state_dict(as_timm(encoder))
    images = torch.randn(2, 3, 37, 37)
    torch.testing.assert_close(encoder(images).pooled, theirs(images))
    torch.testing.assert_close(encoder(images).pooled, encoder(images[:, :, :32, :32]).pooled)


def test_features_are_in_reading_order():
    encoder = make(layers=0)  # a feature depends on its patch alone
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[:, :, 9, 30] += 5  # row 1, column 3 of the 4 x 4 patches
    moved = (encoder(images).features - encoder(changed).features)[0].norm(dim=-1) > 1e-6
    assert moved.nonzero().flatten().tolist() == [7]


def test_a_convolutional_stem_replaces_the_linear_patches():
    encoder = make(stem_channels=(4, 8), stem_depths=(1, 1, 0), pooling="avg")
    encoded = encoder(torch.randn(2, 3, 32, 32))
    assert encoded.features.shape == (2, 16, 24)
    assert any("patches.layers" in name for name, _ in encoder.named_parameters())


def test_mistakes():
    with pytest.raises(ValueError, match=r"pooling: expected one of .*, got 'max'"):
        ImageEncoderConfig(pooling="max")
    with pytest.raises(ValueError, match="image_size: expected a multiple of patch_size 16, got 40"):
        ImageEncoderConfig(image_size=40)
    with pytest.raises(ValueError, match="patch_size: expected at least 1, got 0"):
        ImageEncoderConfig(patch_size=0)
    for stem in ({}, {"stem_channels": (4, 8), "stem_depths": (1, 1, 0)}):
        with pytest.raises(ValueError, match=r"images: expected sides of multiples of 8, got \[32, 36\]"):
            make(**stem)(torch.zeros(1, 3, 32, 36))


@torch.no_grad()
def test_learned_positions_are_resized_to_the_image():
    """A larger image gets interpolated positions; every patch of a constant image then differs by them alone."""
    encoder = make(layers=0, pooling="avg")
    encoder.norm = nn.Identity()
    features = encoder(torch.zeros(1, 3, 64, 32)).features[0] - encoder.patches.bias
    expected = nn.functional.interpolate(
        encoder.positions.T.reshape(1, 24, 4, 4), (8, 4), mode="bicubic", antialias=True
    )
    torch.testing.assert_close(features, expected[0].flatten(1).T)
