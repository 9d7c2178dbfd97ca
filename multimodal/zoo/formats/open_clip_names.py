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
    named = names.rename(state, rules)
    for key in ("projections.image.weight", "projections.text.weight", "decoder.head.weight"):
        affine = key == "projections.text.weight" and config.projections["text"] == "affine"
        if key in named and not affine:  # a bare matrix [W, D]; a linear layer has [D, W]
            named[key] = named[key].T
    names.flatten_image_tensors(named)
    for key in ("logit_scale", "logit_bias"):
        if key in named:
            named[key] = named[key].reshape(())  # some have [1]
    if decoder is not None:
        names.split_cross_attention(named, "encoders.image.pool.cross.")
        for block in range(shared, shared + 2 * decoder.layers):
            names.split_cross_attention(named, f"decoder.blocks.{block}.cross.")
    return named


def image_rules(config: Any) -> names.Rules:
    ours = "encoders.image."
    if ENCODERS.kind_of(config) == "open_clip_image":
        return [(r"visual\.(.*)", rf"{ours}tower.\1")]
    if config.pooling == "map":
        return names.timm_rules(r"visual\.trunk\.")
    after = f"{ours}pool.norm" if config.pooling == "queries" else f"{ours}norm"
    return [
        (r"visual\.conv1\.(.*)", rf"{ours}patches.\1"),
        (r"visual\.class_embedding", f"{ours}class_token"),
        (r"visual\.positional_embedding", f"{ours}positions"),
        (r"visual\.ln_pre\.(.*)", rf"{ours}norm_input.\1"),
        *names.rules_within(r"visual\.transformer\.resblocks\.(\d+)\.", names.OPEN_CLIP_BLOCK, rf"{ours}blocks.\1."),
        (r"visual\.attn_pool\.query", f"{ours}pool.queries"),
        (r"visual\.attn_pool\.ln_q\.(.*)", rf"{ours}pool.norm_queries.\1"),
        (r"visual\.attn_pool\.ln_k\.(.*)", rf"{ours}pool.cross.norm_memory.\1"),
        (r"visual\.attn_pool\.attn\.out_proj\.(.*)", rf"{ours}pool.cross.out.\1"),
        (r"visual\.attn_pool\.attn\.(.*)", rf"{ours}pool.cross.\1"),  # see names.split_cross_attention
        (r"visual\.ln_post\.(.*)", rf"{after}.\1"),
        (r"visual\.proj", "projections.image.weight"),
    ]


def text_rules(config: Any, prefix: str) -> names.Rules:
    """prefix: the pattern of what comes before the keys of the text tower"""
    ours = "encoders.text."
    if ENCODERS.kind_of(config) == "open_clip_text":
        return [(rf"{prefix}({TEXT_KEYS}\b.*)", rf"{ours}tower.\1")]
    return [
        (rf"{prefix}token_embedding\.(.*)", rf"{ours}embedding.\1"),
        (rf"{prefix}positional_embedding", f"{ours}positions"),
        (rf"{prefix}cls_emb", f"{ours}appended"),
        *names.rules_within(rf"{prefix}transformer\.resblocks\.(\d+)\.", names.OPEN_CLIP_BLOCK, rf"{ours}blocks.\1."),
        (rf"{prefix}ln_final\.(.*)", rf"{ours}norm.\1"),
        (rf"{prefix}text_projection", "projections.text.weight"),
        (rf"{prefix}text_projection\.(.*)", r"projections.text.\1"),
    ]


def decoder_rules(layers: int, shared: int) -> names.Rules:
    """For CoCa, where `shared` blocks of the text encoder come first, and each block is followed by a cross block."""
    cross = (
        *((pattern, name) for pattern, name in names.OPEN_CLIP_BLOCK if pattern.startswith((r"mlp", r"ln_2"))),
        (r"ln_1\.(.*)", r"norm_cross.\1"),
        (r"ln_1_kv\.(.*)", r"cross.norm_memory.\1"),
        (r"attn\.out_proj\.(.*)", r"cross.out.\1"),
        (r"attn\.(in_proj_.*)", r"cross.\1"),  # see names.split_cross_attention
    )
    rules: list[tuple[str, str]] = []
    for i in range(layers):
        block = shared + 2 * i
        for theirs, block_rules, ours in (
            ("resblocks", names.OPEN_CLIP_BLOCK, block),
            ("cross_attn", cross, block + 1),
        ):
            rules += [
                (rf"text_decoder\.{theirs}\.{i}\.{pattern}", f"decoder.blocks.{ours}.{name}")
                for pattern, name in block_rules
            ]
    return [
        *rules,
        (r"text_decoder\.ln_final\.(.*)", r"decoder.norm.\1"),
        (r"text_decoder\.text_projection", "decoder.head.weight"),
    ]
