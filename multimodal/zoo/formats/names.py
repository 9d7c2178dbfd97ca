"""Rules that turn the parameter names of other libraries into ours, and tensors that are stored differently."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from multimodal.zoo.weights import CheckpointError

Rules = Sequence[tuple[str, str]]  # the pattern of a key, and the new key; "" drops it

# The parameters of a block: of open_clip, of CLIP, SigLIP and BLIP in transformers, of BERT, and of timm
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


def timm_rules(theirs: str) -> list[tuple[str, str]]:
    """Rules for a ViT of timm as the image encoder. theirs: the pattern of the prefix of its keys"""
    ours = "encoders.image."
    return [
        (rf"{theirs}cls_token", f"{ours}class_token"),
        (rf"{theirs}pos_embed", f"{ours}positions"),
        (rf"{theirs}patch_embed\.proj\.(.*)", rf"{ours}patches.\1"),
        *rules_within(rf"{theirs}blocks\.(\d+)\.", TIMM_BLOCK, rf"{ours}blocks.\1."),
        (rf"{theirs}norm\.(.*)", rf"{ours}norm.\1"),
        (rf"{theirs}attn_pool\.latent", f"{ours}pool.query"),
        (rf"{theirs}attn_pool\.(q|kv)\.(.*)", rf"{ours}pool.cross.\1.\2"),
        (rf"{theirs}attn_pool\.proj\.(.*)", rf"{ours}pool.cross.out.\1"),
        (rf"{theirs}attn_pool\.norm\.(.*)", rf"{ours}pool.norm.\1"),
        (rf"{theirs}attn_pool\.mlp\.fc1\.(.*)", rf"{ours}pool.mlp.0.\1"),
        (rf"{theirs}attn_pool\.mlp\.fc2\.(.*)", rf"{ours}pool.mlp.2.\1"),
    ]


def rules_within(prefix: str, rules: Rules, ours: str) -> list[tuple[str, str]]:
    """`rules` for what follows the pattern `prefix`, which has one group: the number of the block."""
    return [(prefix + pattern, ours + re.sub(r"\\(\d)", _next_group, name)) for pattern, name in rules]


def _next_group(group: "re.Match[str]") -> str:
    return rf"\{int(group[1]) + 1}"


def rename(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Each key by the first rule whose pattern matches all of it.

    Raises CheckpointError for keys that no rule matches, and for two keys that become one.
    """
    compiled = [(re.compile(pattern), name) for pattern, name in rules]
    result: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in state.items():
        matches = ((pattern.fullmatch(key), name) for pattern, name in compiled)
        match, name = next(((match, name) for match, name in matches if match is not None), (None, ""))
        if match is None:
            unknown.append(key)
        elif new := match.expand(name):
            if new in result:
                raise CheckpointError(f"weights: expected one tensor for {new}, got a second one, {key}")
            result[new] = tensor
    if unknown:
        raise CheckpointError(
            f"weights: expected the tensors of the model, got {len(unknown)} unknown ones, such as {unknown[:5]}"
        )
    return result


def fuse(state: Mapping[str, Tensor], parts: Sequence[str], fused: str) -> dict[str, Tensor]:
    """Tensors with `parts[0]`, `parts[1]`, ... in their keys, joined along their rows, with `fused` in the key."""
    result = dict(state)
    for key in state:
        if parts[0] not in key:
            continue
        keys = [key.replace(parts[0], part) for part in parts]
        missing = [name for name in keys if name not in state]
        if missing:
            raise CheckpointError(f"weights: expected {keys}, got none for {missing}")
        result[key.replace(parts[0], fused)] = torch.cat([state[name] for name in keys])
        for name in keys:
            del result[name]
    return result


def flatten_image_tensors(named: dict[str, Tensor]) -> None:
    """Class token, query and positions of the image encoder, in place: [1, ..., W] -> [W], [1, N, W] -> [N, W]"""
    for key in ("encoders.image.class_token", "encoders.image.pool.query"):
        if key in named:
            named[key] = named[key].flatten()
    key = "encoders.image.positions"
    if key in named:
        named[key] = named[key].reshape(-1, named[key].shape[-1])


def split_cross_attention(named: dict[str, Tensor], prefix: str) -> None:
    """The tensors of nn.MultiheadAttention at `prefix` become `q` and `kv`, in place.

    It keeps the matrices of q, k and v in one tensor or, for a memory of another width, in three.
    """
    bias = named.pop(f"{prefix}in_proj_bias", None)
    if bias is None:
        return
    if f"{prefix}in_proj_weight" in named:
        q, k, v = named.pop(f"{prefix}in_proj_weight").chunk(3)
    else:
        q, k, v = (named.pop(f"{prefix}{part}_proj_weight") for part in "qkv")
    named[f"{prefix}q.weight"], named[f"{prefix}kv.weight"] = q, torch.cat([k, v])
    named[f"{prefix}q.bias"], named[f"{prefix}kv.bias"] = bias[: len(q)], bias[len(q) :]
