"""CLIP and SigLIP as transformers keeps them: config.json and state dict."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import DualEncoderConfig
from multimodal.zoo.formats.names import HF_BLOCK, flattened, fused, renamed, within

# What a config.json leaves out (`CLIPConfig` and `SiglipConfig` of transformers).
VIT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
}
CLIP_VISION = VIT | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
SIGLIP_VISION = VIT | {"patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
CLIP_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "eos_token_id": 49407,
}
SIGLIP_TEXT = CLIP_TEXT | {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}


def network(table: Mapping[str, Any]) -> DualEncoderConfig:
    """The network of a config.json with model_type "clip" or "siglip"."""
    siglip = table["model_type"] == "siglip"
    vision = filled(table, "vision_config", SIGLIP_VISION if siglip else CLIP_VISION)
    text = filled(table, "text_config", SIGLIP_TEXT if siglip else CLIP_TEXT)
    image = ImageEncoderConfig(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        pooling="map" if siglip else "token",
        pre_norm=not siglip,
        cut=bool(vision["image_size"] % vision["patch_size"]),
        **vit_fields(vision),
    )
    if siglip and vision.get("vision_use_head", True) is not True:
        raise ValueError(f"vision_use_head: expected True, got {vision['vision_use_head']!r}")
    eos_id = text["eos_token_id"]
    if not siglip and eos_id == 2:  # a mistake of early configs: the end token has the highest id
        eos_id = text["vocab_size"] - 1
    encoder = TextEncoderConfig(
        vocab_size=text["vocab_size"],
        context_length=text["max_position_embeddings"],
        causal=not siglip,
        pooling="last" if siglip else "eos",
        eos_id=eos_id,
        pad_id=text["pad_token_id"],
        attends_padding=siglip,
        **vit_fields(text),
    )
    if siglip:
        embed_dim = text.get("projection_size") or text["hidden_size"]
        return DualEncoderConfig(
            image, encoder, embed_dim, logit_bias=-10.0, image_projection="none", text_projection="affine"
        )
    return DualEncoderConfig(image, encoder, table.get("projection_dim", 512))


def filled(table: Mapping[str, Any], part: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a config.json with what it leaves out; early files have a second table, which wins."""
    found = dict(defaults) | (table.get(part) or {}) | (table.get(f"{part}_dict") or {})
    unusable = {
        key: found[key] for key, default in defaults.items() if not isinstance(found[key], type(default))
    }
    if unusable:
        raise ValueError(f"{part}: expected values like {dict(defaults)}, got {unusable}")
    return found


def vit_fields(part: Mapping[str, Any]) -> dict[str, Any]:
    """What image and text encoders have in common."""
    return {
        "width": part["hidden_size"],
        "layers": part["num_hidden_layers"],
        "heads": part["num_attention_heads"],
        "mlp_ratio": part["intermediate_size"] / part["hidden_size"],
        "activation": activation(part["hidden_act"]),
        "eps": part["layer_norm_eps"],
    }


def activation(name: str) -> str:
    """Ours by the name that transformers has for it."""
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act: expected one of {sorted(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def weights(state: Mapping[str, Tensor], config: DualEncoderConfig) -> dict[str, Tensor]:
    """A state dict of CLIPModel or SiglipModel by the names of our network of `config`."""
    parts = [f".self_attn.{part}_proj." for part in "qkv"]
    image, text = "image_encoder.", "text_encoder."
    rules = [
        (r"logit_(scale|bias)", r"logit_\1"),
        (r".*\.position_ids", ""),  # made anew
        (r"vision_model\.embeddings\.class_embedding", f"{image}class_token"),
        (r"vision_model\.embeddings\.patch_embedding\.(.*)", rf"{image}patches.\1"),
        (r"vision_model\.embeddings\.position_embedding\.weight", f"{image}positions"),
        (r"vision_model\.pre_layrnorm\.(.*)", rf"{image}norm_pre.\1"),  # so spelled
        *within(r"vision_model\.encoder\.layers\.(\d+)\.", HF_BLOCK, rf"{image}blocks.\1."),
        (r"vision_model\.post_layernorm\.(.*)", rf"{image}norm.\1"),
        (r"vision_model\.head\.probe", f"{image}pool.query"),
        (r"vision_model\.head\.attention\.out_proj\.(.*)", rf"{image}pool.cross.out.\1"),
        (r"vision_model\.head\.attention\.in_proj_(.*)", rf"{image}pool.cross.qkv.\1"),  # split below
        (r"vision_model\.head\.layernorm\.(.*)", rf"{image}pool.norm.\1"),
        (r"vision_model\.head\.mlp\.fc1\.(.*)", rf"{image}pool.mlp.0.\1"),
        (r"vision_model\.head\.mlp\.fc2\.(.*)", rf"{image}pool.mlp.2.\1"),
        (r"text_model\.embeddings\.token_embedding\.(.*)", rf"{text}embedding.\1"),
        (r"text_model\.embeddings\.position_embedding\.weight", f"{text}positions"),
        *within(r"text_model\.encoder\.layers\.(\d+)\.", HF_BLOCK, rf"{text}blocks.\1."),
        (r"text_model\.final_layer_norm\.(.*)", rf"{text}norm.\1"),
        (r"text_model\.head\.(.*)", r"text_projection.\1"),
        (r"text_projection\.(.*)", r"text_projection.\1"),
        (r"visual_projection\.(.*)", r"image_projection.\1"),
    ]
    named = renamed(fused(state, parts, ".self_attn.qkv."), rules)
    flattened(named, image)
    for kind in ("weight", "bias"):
        whole = named.pop(f"{image}pool.cross.qkv.{kind}", None)
        if whole is not None:
            width = len(whole) // 3
            named[f"{image}pool.cross.q.{kind}"] = whole[:width]
            named[f"{image}pool.cross.kv.{kind}"] = whole[width:]
    for key in ("logit_scale", "logit_bias"):
        if key in named:
            named[key] = named[key].reshape(())  # SigLIP's are [1]
    return named
