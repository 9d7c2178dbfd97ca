"""Our towers give what open_clip's ViT-B-32 gives, with the same weights."""

import pytest
import torch
from torch import Tensor, nn

from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import DualEncoder, DualEncoderConfig

IMAGE = {
    "class_embedding": "class_token",
    "positional_embedding": "positions",
    "conv1": "patches",
    "ln_pre": "norm_pre",
    "ln_post": "norm",
}
TEXT = {"token_embedding": "embedding", "positional_embedding": "positions", "ln_final": "norm"}
BLOCK = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.in_proj_": "attention.qkv.",
    "attn.out_proj": "attention.out",
    "mlp.c_fc": "mlp.0",
    "mlp.c_proj": "mlp.2",
}


def renamed(name: str, top: dict[str, str]) -> str:
    table = BLOCK if "resblocks" in name else top
    [theirs] = [part for part in table if part in name]
    return name.replace("transformer.resblocks", "blocks").replace(theirs, table[theirs])


def converted(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's names and shapes to ours."""
    ours = {}
    for name, weight in theirs.items():
        if name == "logit_scale":
            ours[name] = weight
        elif name in ("visual.proj", "text_projection"):  # x @ [W, D] there, nn.Linear's [D, W] here
            ours[f"{'image' if name == 'visual.proj' else 'text'}_projection.weight"] = weight.T
        elif name.startswith("visual."):
            key = renamed(name.removeprefix("visual."), IMAGE)
            ours[f"image_encoder.{key}"] = weight
        else:
            ours[f"text_encoder.{renamed(name, TEXT)}"] = weight
    return ours


@pytest.fixture(scope="module")
def clip() -> nn.Module:
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms that differ from 0 and 1 show a mix-up
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_embeddings_are_those_of_open_clip(clip, activation):
    from open_clip.transformer import QuickGELU

    for block in (*clip.visual.transformer.resblocks, *clip.transformer.resblocks):
        block.mlp.gelu = QuickGELU() if activation == "quick_gelu" else nn.GELU()
    config = DualEncoderConfig(
        ImageEncoderConfig(224, 32, 768, 12, 12, activation=activation, eps=1e-5, pre_norm=True),
        TextEncoderConfig(activation=activation),
        embed_dim=512,
    )
    with torch.device("meta"):  # no weights of its own
        ours = DualEncoder.from_config(config)
    ours.load_state_dict(converted(clip.state_dict()), assign=True)
    ours.eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    tokens = torch.zeros(3, 77, dtype=torch.long)
    for row, length in enumerate((4, 30, 12)):
        tokens[row, 1:length] = torch.randint(1, 49406, (length - 1,), generator=generator)
        tokens[row, 0], tokens[row, length] = 49406, 49407
    with torch.no_grad():
        for mine, theirs in (
            (ours.encode_image(images), clip.encode_image(images)),
            (ours.encode_text(tokens), clip.encode_text(tokens)),
            (ours.encode_image(images, normalize=True), clip.encode_image(images, normalize=True)),
            (ours.encode_text(tokens, normalize=True), clip.encode_text(tokens, normalize=True)),
        ):
            assert float((mine - theirs).abs().max()) < 1e-4
            assert float((theirs[0] - theirs[1]).abs().max()) > 1e-2  # the rows differ: this says something
        assert float(ours.scale) == pytest.approx(float(clip.logit_scale.exp()))
