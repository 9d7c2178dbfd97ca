"""Both towers beside open_clip's ViT-B-32: the same weights give the same embeddings."""

import open_clip
import pytest
import torch
from torch import Tensor

from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import DualEncoder, DualEncoderConfig

TEXTS = ["a photo of a cat.", "", "two red squares on green grass, seen from far above", "word " * 100]

BLOCK_NAMES = {  # open_clip -> timm, and -> ours
    "ln_1": ("norm1", "norm1"),
    "attn.in_proj_": ("attn.qkv.", "attention.qkv."),
    "attn.out_proj": ("attn.proj", "attention.out"),
    "ln_2": ("norm2", "norm2"),
    "mlp.c_fc": ("mlp.fc1", "mlp.0"),
    "mlp.c_proj": ("mlp.fc2", "mlp.2"),
}


def block_name(name: str, side: int) -> str:
    """open_clip's "0.attn.in_proj_bias" -> "blocks.0.attn.qkv.bias" (side 0, timm) or ours (side 1)."""
    for theirs, ours in BLOCK_NAMES.items():
        name = name.replace(theirs, ours[side])
    return f"blocks.{name}"


def converted(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of open_clip's CLIP under the names of our DualEncoder."""
    result = {"logit_scale": weights["logit_scale"]}
    result["image_projection.weight"] = weights["visual.proj"].T
    result["text_projection.weight"] = weights["text_projection"].T
    result["image_encoder.vit.cls_token"] = weights["visual.class_embedding"][None, None]
    result["image_encoder.vit.pos_embed"] = weights["visual.positional_embedding"][None]
    result["image_encoder.vit.patch_embed.proj.weight"] = weights["visual.conv1.weight"]
    result["text_encoder.embedding.weight"] = weights["token_embedding.weight"]
    result["text_encoder.positions"] = weights["positional_embedding"]
    for part in ("weight", "bias"):
        result[f"image_encoder.vit.norm_pre.{part}"] = weights[f"visual.ln_pre.{part}"]
        result[f"image_encoder.vit.norm.{part}"] = weights[f"visual.ln_post.{part}"]
        result[f"text_encoder.norm.{part}"] = weights[f"ln_final.{part}"]
    for name, weight in weights.items():
        before, _, block = name.partition("transformer.resblocks.")
        if block and before == "visual.":
            result[f"image_encoder.vit.{block_name(block, 0)}"] = weight
        elif block:
            result[f"text_encoder.{block_name(block, 1)}"] = weight
    return result


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases begin as 0 and gains as 1, which would hide a mistake
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def ours(theirs) -> DualEncoder:
    image = ImageEncoderConfig("vit_base_patch32_clip_224")
    model = DualEncoder.from_config(DualEncoderConfig(image, TextEncoderConfig(), 512)).eval()
    model.load_state_dict(converted(theirs.state_dict()))
    return model


@pytest.mark.parametrize("normalize", [False, True])
def test_image_embeddings_are_those_of_open_clip(ours, theirs, normalize):
    images = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.encode_image(images, normalize=normalize)
        got = ours.encode_image(images, normalize=normalize)
    assert got.shape == (3, 512)
    assert (got - expected).abs().max() < 1e-4
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # different pictures do differ


@pytest.mark.parametrize("normalize", [False, True])
def test_text_embeddings_are_those_of_open_clip(ours, theirs, normalize):
    tokens = open_clip.tokenize(TEXTS)
    with torch.no_grad():
        expected = theirs.encode_text(tokens, normalize=normalize)
        got = ours.encode_text(tokens, normalize=normalize)
    assert got.shape == (len(TEXTS), 512)
    assert (got - expected).abs().max() < 1e-4
    assert (expected[0] - expected[1]).abs().max() > 1e-2


def test_the_scale_is_that_of_open_clip(ours, theirs):
    assert torch.equal(ours.scale, theirs.logit_scale.exp())
