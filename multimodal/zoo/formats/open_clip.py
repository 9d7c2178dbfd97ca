"""open_clip: its model configs and state dicts.

Towers that our modules can express become ours; the others stay open_clip's own, behind `encoders.foreign`.
W = width, D = width of the shared space, N = places
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import (
    ImageConfig,
    ImageEncoderConfig,
    OpenClipImageConfig,
    OpenClipTextConfig,
    TextConfig,
    TextEncoderConfig,
)
from multimodal.models import CaptionerConfig, DualEncoderConfig, NetworkConfig
from multimodal.zoo.formats.names import OPEN_CLIP_BLOCK, Rules, flattened, renamed, timm_rules, within

CLIP_VOCAB, CLIP_EOS = 49408, 49407
# Keys of a tower's config that our modules know, or that change nothing once it is trained.
OUR_VISION = {
    *("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout"),
    *("attentional_pool", "attn_pooler_queries", "attn_pooler_heads", "output_tokens"),
}
OUR_TEXT = {
    *(
        "context_length",
        "vocab_size",
        "width",
        "heads",
        "layers",
        "mlp_ratio",
        "embed_cls",
        "pad_id",
        "eos_id",
    ),
    *("no_causal_mask", "pool_type", "proj_bias", "output_tokens", "norm_kwargs", "act_kwargs"),
    *("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode"),
}
# The ViTs of SigLIP in timm: width, layers, heads, mlp_ratio
SIGLIP_VITS = {
    "base": (768, 12, 12, 4.0),
    "large": (1024, 24, 16, 4.0),
    "so400m": (1152, 27, 16, 3.7362),
    "giantopt": (1536, 40, 16, 4.0),
}
SIGLIP = {"image_size", "timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj"}


def network(table: Mapping[str, Any], hf_config: Mapping[str, Any] | None = None) -> NetworkConfig:
    """The network of a model config (`open_clip.get_model_config(name)`, or `model_cfg` of a folder).

    hf_config: that of a text tower from transformers, which only a hub or a folder has.
    """
    image, image_projection = image_tower(table)
    text, text_projection = text_tower(table, hf_config)
    common: dict[str, Any] = {
        "image": image,
        "text": text,
        "embed_dim": table["embed_dim"],
        "logit_scale": table.get("init_logit_scale", math.log(1 / 0.07)),
        "logit_bias": table.get("init_logit_bias"),
        "image_projection": image_projection,
        "text_projection": text_projection,
    }
    if "multimodal_cfg" not in table:
        return DualEncoderConfig(**common)
    if not isinstance(text, TextEncoderConfig) or not isinstance(image, ImageEncoderConfig):
        raise ValueError(
            f"CoCa: expected towers that are ours, got {table['vision_cfg']}, {table['text_cfg']}"
        )
    cfg = table["multimodal_cfg"]
    decoder = TextDecoderConfig(
        vocab_size=text.vocab_size,
        context_length=cfg.get("context_length", 77),
        width=cfg.get("width", 512),
        layers=cfg.get("layers", 12),
        heads=cfg.get("heads", 8),
        mlp_ratio=cfg.get("mlp_ratio", 4),
        activation=text.activation,
        tie_embeddings=False,
        shared_layers=text.layers,
        memory_blocks=True,
    )
    return CaptionerConfig(**common, decoder=decoder)


def image_tower(table: Mapping[str, Any]) -> tuple[ImageConfig, str]:
    """The image tower and the kind of its projection."""
    cfg, quick, embed_dim = table["vision_cfg"], table.get("quick_gelu", False), table["embed_dim"]
    siglip = _siglip(cfg)
    if siglip is not None:
        return siglip, "none"
    layers = cfg.get("layers", 12)
    if (
        not set(cfg) <= OUR_VISION
        or not isinstance(layers, int)
        or not isinstance(cfg.get("image_size", 224), int)
    ):
        return OpenClipImageConfig(dict(cfg), embed_dim, quick), "none"
    width = cfg.get("width", 768)
    image = ImageEncoderConfig(
        image_size=cfg.get("image_size", 224),
        patch_size=cfg.get("patch_size", 16),
        width=width,
        layers=layers,
        heads=width // cfg.get("head_width", 64),
        pooling="queries" if cfg.get("attentional_pool") else "token",
        mlp_ratio=float(cfg.get("mlp_ratio", 4.0)),
        activation="quick_gelu" if quick else "gelu",
        eps=1e-5,
        pre_norm=True,
        queries=cfg.get("attn_pooler_queries", 256),
        query_heads=cfg.get("attn_pooler_heads", 8),
        query_width=embed_dim,
    )
    return image, "linear"


def text_tower(table: Mapping[str, Any], hf_config: Mapping[str, Any] | None) -> tuple[TextConfig, str]:
    """The text tower and the kind of its projection."""
    cfg, quick, embed_dim = table["text_cfg"], table.get("quick_gelu", False), table["embed_dim"]
    vocab, length = cfg.get("vocab_size", CLIP_VOCAB), cfg.get("context_length", 77)
    pooling, causal = cfg.get("pool_type", "argmax"), not cfg.get("no_causal_mask", False)
    if pooling == "argmax" and vocab == CLIP_VOCAB:  # the end token has the highest id
        pooling, eos_id = "eos", CLIP_EOS
    else:
        eos_id = cfg.get("eos_id", 2)
    if cfg.get("embed_cls"):
        pooling = "appended"
    expressible = pooling in ("eos", "appended") or (pooling == "last" and not causal)
    act, norm = cfg.get("act_kwargs") or {}, cfg.get("norm_kwargs") or {}
    if not (set(cfg) <= OUR_TEXT and expressible and set(act) <= {"approximate"} and set(norm) <= {"eps"}):
        hf = dict(hf_config or {})
        vocab, eos_id = hf.get("vocab_size", vocab), hf.get("eos_token_id", eos_id)
        config = OpenClipTextConfig(dict(cfg), embed_dim, vocab, length, eos_id, quick, hf)
        return config, "none"
    activation = {"none": "gelu", "tanh": "gelu_tanh"}[act.get("approximate", "none")]
    text = TextEncoderConfig(
        vocab_size=vocab,
        context_length=length,
        width=cfg.get("width", 512),
        layers=cfg.get("layers", 12),
        heads=cfg.get("heads", 8),
        mlp_ratio=float(cfg.get("mlp_ratio", 4.0)),
        activation="quick_gelu" if quick else activation,
        causal=causal,
        pooling=pooling,
        eos_id=eos_id,
        pad_id=cfg.get("pad_id", 0),
        attends_padding=not causal,
        eps=norm.get("eps", 1e-5),
    )
    return text, "affine" if cfg.get("proj_bias") else "linear"


def _siglip(cfg: Mapping[str, Any]) -> ImageEncoderConfig | None:
    """The ViT of a SigLIP, which pools by itself and has no projection; None for any other tower."""
    found = re.fullmatch(r"vit_([a-z0-9]+)_patch(\d+)_siglip_(?:gap_)?\d+", str(cfg.get("timm_model_name")))
    if found is None or not set(cfg) <= SIGLIP or found[1] not in SIGLIP_VITS:
        return None
    if (cfg.get("timm_pool"), cfg.get("timm_proj")) != ("map", "none"):
        return None
    width, layers, heads, mlp_ratio = SIGLIP_VITS[found[1]]
    size = cfg.get("image_size", 224)
    patch = int(found[2])
    cut = size % patch != 0
    return ImageEncoderConfig(size, patch, width, layers, heads, "map", mlp_ratio, cut=cut)


def weights(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """A state dict of open_clip by the names of our network of `config`."""
    assert isinstance(config, DualEncoderConfig)
    root = "dual." if isinstance(config, CaptionerConfig) else ""
    # CLIP has its text tower at the top, CustomTextCLIP and CoCa under "text."
    text = "" if "positional_embedding" in state else r"text\."
    rules = [
        (r"logit_(scale|bias)", rf"{root}logit_\1"),
        (r"(?:.*\.)?attn_mask|.*\.position_ids", ""),  # made anew
        *image_rules(config.image, root),
        *text_rules(config.text, root, text),
    ]
    if isinstance(config, CaptionerConfig):
        rules += decoder_rules(config.decoder)
    named = renamed(state, rules)
    for key in (f"{root}image_projection.weight", f"{root}text_projection.weight", "decoder.head.weight"):
        affine = key == f"{root}text_projection.weight" and config.text_projection == "affine"
        if key in named and not affine:  # a bare matrix [W, D]; a linear layer has [D, W]
            named[key] = named[key].T
    flattened(named, f"{root}image_encoder.")
    for key in (f"{root}logit_scale", f"{root}logit_bias"):
        if key in named:
            named[key] = named[key].reshape(())  # some have [1]
    if isinstance(config, CaptionerConfig):
        _split_cross(named, f"{root}image_encoder.pool.cross.")
        for block in range(
            config.decoder.shared_layers, config.decoder.shared_layers + 2 * config.decoder.layers
        ):
            _split_cross(named, f"decoder.blocks.{block}.cross.")
    return named


def image_rules(config: ImageConfig, root: str) -> Rules:
    ours = f"{root}image_encoder."
    if isinstance(config, OpenClipImageConfig):
        return [(r"visual\.(.*)", rf"{ours}tower.\1")]
    if config.pooling == "map":
        return timm_rules(r"visual\.trunk\.", ours)
    after = f"{ours}pool.norm" if config.pooling == "queries" else f"{ours}norm"
    return [
        (r"visual\.conv1\.(.*)", rf"{ours}patches.\1"),
        (r"visual\.class_embedding", f"{ours}class_token"),
        (r"visual\.positional_embedding", f"{ours}positions"),
        (r"visual\.ln_pre\.(.*)", rf"{ours}norm_pre.\1"),
        *within(r"visual\.transformer\.resblocks\.(\d+)\.", OPEN_CLIP_BLOCK, rf"{ours}blocks.\1."),
        (r"visual\.attn_pool\.query", f"{ours}pool.queries"),
        (r"visual\.attn_pool\.ln_q\.(.*)", rf"{ours}pool.norm_queries.\1"),
        (r"visual\.attn_pool\.ln_k\.(.*)", rf"{ours}pool.norm_patches.\1"),
        (r"visual\.attn_pool\.attn\.out_proj\.(.*)", rf"{ours}pool.cross.out.\1"),
        (r"visual\.attn_pool\.attn\.(.*)", rf"{ours}pool.cross.\1"),  # see _split_cross
        (r"visual\.ln_post\.(.*)", rf"{after}.\1"),
        (r"visual\.proj", f"{root}image_projection.weight"),
    ]


def text_rules(config: TextConfig, root: str, prefix: str) -> Rules:
    ours = f"{root}text_encoder."
    if isinstance(config, OpenClipTextConfig):
        # At the top only those names are the text's.
        own = r"(?:token_embedding|positional_embedding|transformer|ln_final|text_projection|cls_emb|proj|pooler)"
        return [(rf"{prefix}({own}\b.*)", rf"{ours}tower.\1")]
    return [
        (rf"{prefix}token_embedding\.(.*)", rf"{ours}embedding.\1"),
        (rf"{prefix}positional_embedding", f"{ours}positions"),
        (rf"{prefix}cls_emb", f"{ours}appended"),
        *within(rf"{prefix}transformer\.resblocks\.(\d+)\.", OPEN_CLIP_BLOCK, rf"{ours}blocks.\1."),
        (rf"{prefix}ln_final\.(.*)", rf"{ours}norm.\1"),
        (rf"{prefix}text_projection", f"{root}text_projection.weight"),
        (rf"{prefix}text_projection\.(.*)", rf"{root}text_projection.\1"),
    ]


def decoder_rules(config: TextDecoderConfig) -> Rules:
    """CoCa's: block i of its own is followed by cross block i, after the blocks of the text encoder."""
    cross = (
        *((pattern, name) for pattern, name in OPEN_CLIP_BLOCK if pattern.startswith((r"mlp", r"ln_2"))),
        (r"ln_1\.(.*)", r"norm_cross.\1"),
        (r"ln_1_kv\.(.*)", r"norm_memory.\1"),
        (r"attn\.out_proj\.(.*)", r"cross.out.\1"),
        (r"attn\.(in_proj_.*)", r"cross.\1"),  # see _split_cross
    )
    rules: list[tuple[str, str]] = []
    for i in range(config.layers):
        block = config.shared_layers + 2 * i
        for theirs, kind, ours in (("resblocks", OPEN_CLIP_BLOCK, block), ("cross_attn", cross, block + 1)):
            rules += [
                (rf"text_decoder\.{theirs}\.{i}\.{pattern}", f"decoder.blocks.{ours}.{name}")
                for pattern, name in kind
            ]
    return [
        *rules,
        (r"text_decoder\.ln_final\.(.*)", r"decoder.norm.\1"),
        (r"text_decoder\.text_projection", "decoder.head.weight"),
    ]


def _split_cross(named: dict[str, Tensor], prefix: str) -> None:
    """nn.MultiheadAttention keeps q, k and v in one tensor or, for a memory of another width, in three."""
    bias = named.pop(f"{prefix}in_proj_bias", None)
    if bias is None:
        return
    if f"{prefix}in_proj_weight" in named:
        q, k, v = named.pop(f"{prefix}in_proj_weight").chunk(3)
    else:
        q, k, v = (named.pop(f"{prefix}{part}_proj_weight") for part in "qkv")
    named[f"{prefix}q.weight"], named[f"{prefix}kv.weight"] = q, torch.cat([k, v])
    named[f"{prefix}q.bias"], named[f"{prefix}kv.bias"] = bias[: len(q)], bias[len(q) :]
