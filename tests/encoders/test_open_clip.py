"""Our encoders compared with open_clip's, and open_clip's own towers as encoders."""

import pytest
import torch
from torch import Tensor, nn

from multimodal.encoders import ENCODERS, ImageEncoderConfig, OpenClipImageConfig, OpenClipTextConfig, TextEncoderConfig
from multimodal.models import DualEncoder, DualEncoderConfig, build_model
from tests.layers.peers import randomise

EMBED_DIM, EOS, CONTEXT, VOCABULARY = 16, 99, 12, 100
VISION = {"image_size": 32, "patch_size": 8, "width": 48, "head_width": 16, "layers": 3}
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 32, "heads": 2, "layers": 2}

IMAGE_NAMES = {
    "class_embedding": "class_token",
    "positional_embedding": "positions",
    "conv1": "patches",
    "ln_pre": "norm_input",
    "ln_post": "norm",
}
TEXT_NAMES = {"token_embedding": "embedding", "positional_embedding": "positions", "ln_final": "norm"}
BLOCK_NAMES = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.in_proj_": "attention.qkv.",
    "attn.out_proj": "attention.out",
    "mlp.c_fc": "mlp.0",
    "mlp.c_proj": "mlp.2",
}


def renamed(name: str, top: dict[str, str]) -> str:
    table = BLOCK_NAMES if "resblocks" in name else top
    [theirs] = [part for part in table if part in name]
    return name.replace("transformer.resblocks", "blocks").replace(theirs, table[theirs])


def converted(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's names and shapes to ours."""
    ours = {}
    for name, weight in theirs.items():
        if name == "logit_scale":
            ours[name] = weight
        elif name in ("visual.proj", "text_projection"):  # x @ [W, D] there, nn.Linear's [D, W] here
            ours[f"projections.{'image' if name == 'visual.proj' else 'text'}.weight"] = weight.T
        elif name.startswith("visual."):
            ours[f"encoders.image.{renamed(name.removeprefix('visual.'), IMAGE_NAMES)}"] = weight
        else:
            ours[f"encoders.text.{renamed(name, TEXT_NAMES)}"] = weight
    return ours


def make_images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def make_tokens() -> Tensor:
    tokens = torch.zeros(3, CONTEXT, dtype=torch.long)
    generator = torch.Generator().manual_seed(2)
    for row, length in enumerate((4, CONTEXT, 7)):
        tokens[row, : length - 1] = torch.randint(1, EOS, (length - 1,), generator=generator)
        tokens[row, length - 1] = EOS
    return tokens


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_embeddings_equal_open_clips(activation):
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    quick = activation == "quick_gelu"
    clip = CLIP(EMBED_DIM, CLIPVisionCfg(**VISION), CLIPTextCfg(**TEXT), quick_gelu=quick).eval()
    for parameter in clip.parameters():  # biases and norms that differ from 0 and 1 show a mix-up
        parameter.add_((0.1 if parameter.ndim == 1 else 0.02) * torch.randn_like(parameter))
    config = DualEncoderConfig(
        encoders={
            "image": ImageEncoderConfig(
                image_size=32,
                patch_size=8,
                width=48,
                layers=3,
                heads=3,
                activation=activation,
                eps=1e-5,
                norm_input=True,
            ),
            "text": TextEncoderConfig(
                vocab_size=VOCABULARY,
                context_length=CONTEXT,
                width=32,
                layers=2,
                heads=2,
                eos_id=EOS,
                activation=activation,
            ),
        },
        embed_dim=EMBED_DIM,
    )
    with torch.device("meta"):  # no weights of its own
        ours = build_model(config)
    assert type(ours) is DualEncoder
    ours.load_state_dict(converted(clip.state_dict()), assign=True)
    ours.eval()
    images, tokens = make_images(), make_tokens()
    for normalize in (False, True):
        for mine, theirs in (
            (ours.encode("image", images, normalize), clip.encode_image(images, normalize)),
            (ours.encode("text", tokens, normalize), clip.encode_text(tokens, normalize)),
        ):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
            assert float((theirs[0] - theirs[1]).abs().max()) > 1e-2  # the rows differ
    torch.testing.assert_close(ours.logit_scale, clip.logit_scale)


TIMM_TOWER = {"timm_model_name": "test_resnet", "timm_pool": "", "timm_proj": "linear", "image_size": 32}


@torch.no_grad()
@pytest.mark.parametrize(
    ("vision", "quick"),
    [(VISION, True), ({**VISION, "layers": [1, 1, 1, 1], "width": 8}, False), (TIMM_TOWER, False)],
    ids=["vit", "resnet", "timm"],
)
def test_an_image_tower_equals_open_clips(vision, quick):
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    torch.manual_seed(0)
    theirs = CustomTextCLIP(EMBED_DIM, CLIPVisionCfg(**vision), CLIPTextCfg(**TEXT), quick_gelu=quick).eval()
    randomise(theirs, 0.02)
    config = OpenClipImageConfig(vision_cfg=vision, embed_dim=EMBED_DIM, quick_gelu=quick)
    assert ENCODERS.from_dict(ENCODERS.to_dict(config)) == config
    assert config.image_size == 32
    ours = ENCODERS.build(config).eval()
    assert (ours.modality, ours.width, ours.config) == ("image", EMBED_DIM, config)
    ours.tower.load_state_dict(theirs.visual.state_dict())
    encoded = ours(make_images())
    assert encoded.features is None
    torch.testing.assert_close(encoded.pooled, theirs.encode_image(make_images()))


@torch.no_grad()
def test_a_text_tower_equals_open_clips():
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    torch.manual_seed(0)
    theirs = CustomTextCLIP(EMBED_DIM, CLIPVisionCfg(**VISION), CLIPTextCfg(**TEXT)).eval()
    randomise(theirs, 0.02)
    config = OpenClipTextConfig(
        text_cfg=TEXT, embed_dim=EMBED_DIM, vocab_size=VOCABULARY, context_length=CONTEXT, eos_id=EOS
    )
    assert ENCODERS.from_dict(ENCODERS.to_dict(config)) == config
    ours = ENCODERS.build(config).eval()
    assert (ours.modality, ours.width, ours.config) == ("text", EMBED_DIM, config)
    ours.tower.load_state_dict(theirs.text.state_dict())
    encoded = ours(make_tokens())
    assert encoded.features is None
    torch.testing.assert_close(encoded.pooled, theirs.encode_text(make_tokens()))


@torch.no_grad()
def test_a_text_tower_of_transformers_is_built_without_a_download():
    from transformers import RobertaConfig, RobertaModel

    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": CONTEXT + 2,
        "pad_token_id": 0,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    config = OpenClipTextConfig(
        text_cfg={"hf_model_name": "roberta-base", "hf_proj_type": "linear", "hf_pooler_type": "mean_pooler"},
        embed_dim=EMBED_DIM,
        vocab_size=VOCABULARY,
        context_length=CONTEXT,
        eos_id=EOS,
        hf_config={"model_type": "roberta", **values},
    )
    assert ENCODERS.from_dict(ENCODERS.to_dict(config)) == config
    torch.manual_seed(0)
    ours = randomise(ENCODERS.build(config), 0.02).eval()
    theirs = RobertaModel(RobertaConfig(**values), add_pooling_layer=False).eval()
    theirs.load_state_dict(ours.tower.transformer.state_dict())
    tokens = make_tokens()
    real = (tokens != 0)[..., None]
    hidden = theirs(tokens, real[..., 0].long()).last_hidden_state
    mean = (hidden * real).sum(1) / real.sum(1)
    assert isinstance(ours.tower.proj, nn.Linear)
    torch.testing.assert_close(ours(tokens).pooled, ours.tower.proj(mean))
