"""What configs of transformers have in common."""

from collections.abc import Mapping
from typing import Any

from multimodal.zoo.weights import CheckpointError

# What a vision_config leaves out: the defaults that CLIP, SigLIP and BLIP share
VIT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
}
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}


def fill_defaults(table: Mapping[str, Any], part: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a config.json with its defaults. Early files have a second table, which takes precedence."""
    found = dict(defaults) | (table.get(part) or {}) | (table.get(f"{part}_dict") or {})
    unusable = {
        key: found[key] for key, default in defaults.items() if not isinstance(found[key], type(default))
    }
    if unusable:
        raise CheckpointError(f"{part}: expected values like {dict(defaults)}, got {unusable}")
    return found


def transformer_fields(part: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that image and text encoders share."""
    activation = part["hidden_act"]
    if activation not in ACTIVATIONS:
        raise CheckpointError(f"hidden_act: expected one of {sorted(ACTIVATIONS)}, got {activation!r}")
    return {
        "width": part["hidden_size"],
        "layers": part["num_hidden_layers"],
        "heads": part["num_attention_heads"],
        "mlp_ratio": part["intermediate_size"] / part["hidden_size"],
        "activation": ACTIVATIONS[activation],
        "eps": part["layer_norm_eps"],
    }
