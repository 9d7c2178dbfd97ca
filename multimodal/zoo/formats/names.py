"""Rules that turn the parameter names of other libraries into ours, and tensors that are stored differently."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from multimodal.zoo.weights import CheckpointError

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
# Of scalars, which some have as [1], and of a class token and a query [W], which some have as [1, ..., W]
SHAPES = {"logit_scale": (), "logit_bias": (), "encoders.image.class_token": (-1,), "encoders.image.pool.query": (-1,)}


def rules(table: str, theirs: str = "", ours: str = "") -> Iterator[tuple[str, str]]:
    """The patterns and keys of a table of names.toml, for keys after the pattern `theirs`, which becomes `ours`.

    Only one of the patterns of a rule may have groups.
    """
    for pattern, key in TABLES[table].items():
        if isinstance(key, str):
            yield theirs + pattern, ours + key
        else:
            for inner, prefix in key.items():
                yield from rules(inner, theirs + pattern, ours + prefix)


def convert(state: Mapping[str, Tensor], rules: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
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


def _rename(state: Mapping[str, Tensor], rules: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
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
