"""Rules that turn the parameter names of other libraries into ours, and tensors that are stored differently."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from multimodal.zoo.weights import CheckpointError

# Pairs of the pattern of a key and the new key. The first pattern that matches the whole key counts; for a new key that
# ends with ".", a match of the beginning is enough, and the rest of the key is kept. "" drops the tensor.
Rules = Sequence[tuple[str, str]]

# The parameters of a block: of open_clip, timm, and CLIP, SigLIP and BLIP in transformers
BLOCK: Rules = (
    (r"(?:ln_1|norm1|layer_norm1)\.", "norm1."),
    (r"(?:self_)?attn\.(?:in_proj_|qkv\.)", "attention.qkv."),
    (r"(?:self_)?attn\.(?:out_proj|proj|projection)\.", "attention.out."),
    (r"(?:ln_2|norm2|layer_norm2)\.", "norm2."),
    (r"mlp\.(?:c_fc|fc1)\.", "mlp.0."),
    (r"mlp\.(?:c_proj|fc2)\.", "mlp.2."),
)
BERT_BLOCK: Rules = (
    (r"attention\.self\.qkv\.", "attention.qkv."),
    (r"attention\.output\.dense\.", "attention.out."),
    (r"attention\.output\.LayerNorm\.", "norm1."),
    (r"crossattention\.self\.query\.", "cross.q."),
    (r"crossattention\.self\.kv\.", "cross.kv."),
    (r"crossattention\.output\.dense\.", "cross.out."),
    (r"crossattention\.output\.LayerNorm\.", "norm_cross."),
    (r"intermediate\.dense\.", "mlp.0."),
    (r"output\.dense\.", "mlp.2."),
    (r"output\.LayerNorm\.", "norm2."),
)


def rules_within(prefix: str, rules: Rules, ours: str) -> list[tuple[str, str]]:
    """`rules` for what follows the pattern `prefix`, which becomes `ours`. Only one of the patterns may have groups."""
    return [(prefix + pattern, ours + name) for pattern, name in rules]


TIMM_VIT: Rules = (
    (r"cls_token", "class_token"),
    (r"pos_embed", "positions"),
    (r"patch_embed\.proj\.", "patches."),
    *rules_within(r"blocks\.(\d+)\.", BLOCK, r"blocks.\1."),
    (r"norm\.", "norm."),
    (r"attn_pool\.latent", "pool.query"),
    (r"attn_pool\.(q|kv)\.", r"pool.cross.\1."),
    (r"attn_pool\.proj\.", "pool.cross.out."),
    (r"attn_pool\.norm\.", "pool.norm."),
    *rules_within(r"attn_pool\.", BLOCK, "pool."),  # its mlp
)
HF_VIT: Rules = (  # of transformers
    (r"embeddings\.class_embedding", "class_token"),
    (r"embeddings\.patch_embedding\.", "patches."),
    (r"embeddings\.position_embedding(?:\.weight)?", "positions"),
    (r"pre_layrnorm\.", "norm_input."),  # [sic]
    *rules_within(r"encoder\.layers\.(\d+)\.", BLOCK, r"blocks.\1."),
    (r"post_layernorm\.", "norm."),
    (r"head\.probe", "pool.query"),
    (r"head\.attention\.out_proj\.", "pool.cross.out."),
    (r"head\.attention\.", "pool.cross."),  # split by `convert`
    (r"head\.layernorm\.", "pool.norm."),
    *rules_within(r"head\.", BLOCK, "pool."),  # its mlp
)
# Of scalars, which some have as [1], and of a class token and a query [W], which some have as [1, ..., W]
SHAPES = {"logit_scale": (), "logit_bias": (), "encoders.image.class_token": (-1,), "encoders.image.pool.query": (-1,)}


def convert(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """A state dict by our names, in our shapes.

    Raises CheckpointError for keys that no rule matches, and for two keys that become one.
    """
    named = _rename(state, rules)
    for key, shape in SHAPES.items():
        if key in named:
            named[key] = named[key].reshape(shape)
    positions = named.get("encoders.image.positions")
    if positions is not None:
        named["encoders.image.positions"] = positions.reshape(-1, positions.shape[-1])  # [1, N, W] -> [N, W]
    for key in [key for key in named if key.endswith(".cross.in_proj_bias")]:
        _split_cross_attention(named, key.removesuffix("in_proj_bias"))
    return named


def _rename(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    compiled = [(re.compile(pattern), name) for pattern, name in rules]
    result: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in state.items():
        for pattern, name in compiled:
            match = pattern.match(key) if name.endswith(".") else pattern.fullmatch(key)
            if match is not None:
                break
        else:
            unknown.append(key)
            continue
        new = match.expand(name) + key[match.end() :]
        if new in result:
            raise CheckpointError(f"weights: expected one tensor for {new}, got a second one, {key}")
        if new:
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


def _split_cross_attention(named: dict[str, Tensor], prefix: str) -> None:
    """The tensors of nn.MultiheadAttention at `prefix` become `q` and `kv`, in place.

    It keeps the matrices of q, k and v in one tensor or, for a memory of another width, in three.
    """
    bias = named.pop(f"{prefix}in_proj_bias")
    if f"{prefix}in_proj_weight" in named:
        q, k, v = named.pop(f"{prefix}in_proj_weight").chunk(3)
    else:
        q, k, v = (named.pop(f"{prefix}{part}_proj_weight") for part in "qkv")
    named[f"{prefix}q.weight"], named[f"{prefix}kv.weight"] = q, torch.cat([k, v])
    named[f"{prefix}q.bias"], named[f"{prefix}kv.bias"] = bias[: len(q)], bias[len(q) :]
