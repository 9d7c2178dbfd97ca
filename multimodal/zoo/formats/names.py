"""Foreign names to ours: rules for keys, and tensors that are stored otherwise."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Rules = Sequence[tuple[str, str]]  # pattern of a whole key, and what takes its place; "" drops it

# Blocks by their prefix: open_clip's, then those of transformers' CLIP, SigLIP and BLIP, then BERT's.
OPEN_CLIP_BLOCK = (
    (r"ln_1\.(.*)", r"norm1.\1"),
    (r"attn\.in_proj_(.*)", r"attention.qkv.\1"),
    (r"attn\.out_proj\.(.*)", r"attention.out.\1"),
    (r"ln_2\.(.*)", r"norm2.\1"),
    (r"mlp\.c_fc\.(.*)", r"mlp.0.\1"),
    (r"mlp\.c_proj\.(.*)", r"mlp.2.\1"),
)
HF_BLOCK = (
    (r"layer_norm1\.(.*)", r"norm1.\1"),
    (r"self_attn\.qkv\.(.*)", r"attention.qkv.\1"),
    (r"self_attn\.(?:out_proj|projection)\.(.*)", r"attention.out.\1"),
    (r"layer_norm2\.(.*)", r"norm2.\1"),
    (r"mlp\.fc1\.(.*)", r"mlp.0.\1"),
    (r"mlp\.fc2\.(.*)", r"mlp.2.\1"),
)
BERT_BLOCK = (
    (r"attention\.self\.qkv\.(.*)", r"attention.qkv.\1"),
    (r"attention\.output\.dense\.(.*)", r"attention.out.\1"),
    (r"attention\.output\.LayerNorm\.(.*)", r"norm1.\1"),
    (r"crossattention\.self\.query\.(.*)", r"cross.q.\1"),
    (r"crossattention\.self\.kv\.(.*)", r"cross.kv.\1"),
    (r"crossattention\.output\.dense\.(.*)", r"cross.out.\1"),
    (r"crossattention\.output\.LayerNorm\.(.*)", r"norm_cross.\1"),
    (r"intermediate\.dense\.(.*)", r"mlp.0.\1"),
    (r"output\.dense\.(.*)", r"mlp.2.\1"),
    (r"output\.LayerNorm\.(.*)", r"norm2.\1"),
)
TIMM_BLOCK = (
    (r"attn\.qkv\.(.*)", r"attention.qkv.\1"),
    (r"attn\.proj\.(.*)", r"attention.out.\1"),
    (r"mlp\.fc1\.(.*)", r"mlp.0.\1"),
    (r"mlp\.fc2\.(.*)", r"mlp.2.\1"),
    (r"(norm[12]\..*)", r"\1"),
)


def timm_rules(theirs: str, ours: str) -> list[tuple[str, str]]:
    """For a ViT of timm: `theirs` is the pattern before its names, `ours` what stands before ours."""
    return [
        (rf"{theirs}cls_token", f"{ours}class_token"),
        (rf"{theirs}pos_embed", f"{ours}positions"),
        (rf"{theirs}patch_embed\.proj\.(.*)", rf"{ours}patches.\1"),
        *within(rf"{theirs}blocks\.(\d+)\.", TIMM_BLOCK, rf"{ours}blocks.\1."),
        (rf"{theirs}norm\.(.*)", rf"{ours}norm.\1"),
        (rf"{theirs}attn_pool\.latent", f"{ours}pool.query"),
        (rf"{theirs}attn_pool\.(q|kv)\.(.*)", rf"{ours}pool.cross.\1.\2"),
        (rf"{theirs}attn_pool\.proj\.(.*)", rf"{ours}pool.cross.out.\1"),
        (rf"{theirs}attn_pool\.norm\.(.*)", rf"{ours}pool.norm.\1"),
        (rf"{theirs}attn_pool\.mlp\.fc1\.(.*)", rf"{ours}pool.mlp.0.\1"),
        (rf"{theirs}attn_pool\.mlp\.fc2\.(.*)", rf"{ours}pool.mlp.2.\1"),
    ]


def flattened(named: dict[str, Tensor], image: str) -> None:
    """Of the image encoder `image`: what is stored as [1, ..., W] becomes [W], positions [N, W], in place."""
    for key in (f"{image}class_token", f"{image}pool.query"):
        if key in named:
            named[key] = named[key].flatten()
    key = f"{image}positions"
    if key in named:
        named[key] = named[key].reshape(-1, named[key].shape[-1])


def renamed(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Each key by the first rule that fits it as a whole. ValueError names keys that none fits, and keys that
    two become."""
    compiled = [(re.compile(pattern), name) for pattern, name in rules]
    result: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in state.items():
        for pattern, name in compiled:
            found = pattern.fullmatch(key)
            if found is None:
                continue
            new = found.expand(name)
            if new in result:
                raise ValueError(f"weights: expected one tensor for {new}, got a second in {key}")
            if new:
                result[new] = tensor
            break
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"weights: expected those of the model, got {len(unknown)} unknown, such as {unknown[:5]}"
        )
    return result


def within(prefix: str, rules: Rules, ours: str) -> list[tuple[str, str]]:
    """`rules` for what follows the pattern `prefix`, which has one group: the number of the block."""
    return [(prefix + pattern, ours + re.sub(r"\\(\d)", _next, name)) for pattern, name in rules]


def _next(group: "re.Match[str]") -> str:
    return rf"\{int(group[1]) + 1}"


def fused(state: Mapping[str, Tensor], parts: Sequence[str], whole: str) -> dict[str, Tensor]:
    """Tensors `*parts[0]*`, `*parts[1]*`, ... of one place joined along their rows under the name `*whole*`."""
    result = dict(state)
    for key in state:
        if parts[0] not in key:
            continue
        keys = [key.replace(parts[0], part) for part in parts]
        missing = [name for name in keys if name not in state]
        if missing:
            raise ValueError(f"weights: expected {keys}, got none for {missing}")
        result[key.replace(parts[0], whole)] = torch.cat([state[name] for name in keys])
        for name in keys:
            del result[name]
    return result
