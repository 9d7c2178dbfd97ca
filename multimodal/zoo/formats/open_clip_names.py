"""open_clip: the names of its parameters.

W = width, D = width of the shared space
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from multimodal.encoders import ENCODERS
from multimodal.models import DualEncoderConfig
from multimodal.zoo.formats import names

# Where the text tower is not under "text.", only these keys belong to it.
TEXT_KEYS = r"(?:token_embedding|positional_embedding|transformer|ln_final|text_projection|cls_emb|proj|pooler)"
VIT: names.Rules = (
    (r"conv1\.", "patches."),
    (r"class_embedding", "class_token"),
    (r"positional_embedding", "positions"),
    (r"ln_pre\.", "norm_input."),
    *names.rules_within(r"transformer\.resblocks\.(\d+)\.", names.BLOCK, r"blocks.\1."),
    (r"attn_pool\.query", "pool.queries"),
    (r"attn_pool\.ln_q\.", "pool.norm_queries."),
    (r"attn_pool\.ln_k\.", "pool.cross.norm_memory."),
    (r"attn_pool\.attn\.out_proj\.", "pool.cross.out."),
    (r"attn_pool\.attn\.", "pool.cross."),  # split by `names.convert`
)
TEXT: names.Rules = (
    (r"token_embedding\.", "embedding."),
    (r"positional_embedding", "positions"),
    (r"cls_emb", "appended"),
    *names.rules_within(r"transformer\.resblocks\.(\d+)\.", names.BLOCK, r"blocks.\1."),
    (r"ln_final\.", "norm."),
)
CROSS_BLOCK: names.Rules = (
    (r"ln_1\.", "norm_cross."),
    (r"ln_1_kv\.", "cross.norm_memory."),
    (r"attn\.out_proj\.", "cross.out."),
    (r"attn\.", "cross."),  # split by `names.convert`
    *names.BLOCK,
)


def convert_weights(state: Mapping[str, Tensor], config: DualEncoderConfig) -> dict[str, Tensor]:
    """A state dict of open_clip by the names of our network of `config`."""
    decoder = getattr(config, "decoder", None)
    shared = config.encoders["text"].layers if decoder is not None else 0  # the first blocks of the decoder
    # CLIP has its text tower at the top, CustomTextCLIP and CoCa have it under "text."
    prefix = "" if "positional_embedding" in state else r"text\."
    rules = [
        (r"logit_(scale|bias)", r"logit_\1"),
        (r"(?:.*\.)?attn_mask|.*\.position_ids", ""),  # not learned
        *image_rules(config.encoders["image"]),
        *text_rules(config.encoders["text"], prefix),
        *([] if decoder is None else decoder_rules(decoder.layers, shared)),
    ]
    named = names.convert(state, rules)
    for key in ("projections.image.weight", "projections.text.weight", "decoder.head.weight"):
        affine = key == "projections.text.weight" and config.projections["text"] == "affine"
        if key in named and not affine:  # a bare matrix [W, D]; a linear layer has [D, W]
            named[key] = named[key].T
    return named


def image_rules(config: Any) -> names.Rules:
    ours = "encoders.image."
    if ENCODERS.kind_of(config) == "open_clip_image":
        return [(r"visual\.", f"{ours}tower.")]
    if config.pooling == "map":
        return names.rules_within(r"visual\.trunk\.", names.TIMM_VIT, ours)
    return [
        (r"visual\.proj", "projections.image.weight"),
        (r"visual\.ln_post\.", f"{ours}pool.norm." if config.pooling == "queries" else f"{ours}norm."),
        *names.rules_within(r"visual\.", VIT, ours),
    ]


def text_rules(config: Any, prefix: str) -> names.Rules:
    """prefix: the pattern of what comes before the keys of the text tower"""
    ours = "encoders.text."
    if ENCODERS.kind_of(config) == "open_clip_text":
        return [(rf"{prefix}(?={TEXT_KEYS}\b)", f"{ours}tower.")]
    return [
        (rf"{prefix}text_projection", "projections.text.weight"),
        (rf"{prefix}text_projection\.", "projections.text."),
        *names.rules_within(prefix, TEXT, ours),
    ]


def decoder_rules(layers: int, shared: int) -> names.Rules:
    """For CoCa, where `shared` blocks of the text encoder come first, and each block is followed by a cross block."""
    rules = [(r"text_decoder\.ln_final\.", "decoder.norm."), (r"text_decoder\.text_projection", "decoder.head.weight")]
    for i in range(layers):
        block = shared + 2 * i
        rules += names.rules_within(rf"text_decoder\.resblocks\.{i}\.", names.BLOCK, f"decoder.blocks.{block}.")
        rules += names.rules_within(rf"text_decoder\.cross_attn\.{i}\.", CROSS_BLOCK, f"decoder.blocks.{block + 1}.")
    return rules
