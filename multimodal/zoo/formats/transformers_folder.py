"""What the folders of transformers have in common."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from multimodal.models import encoder_configs
from multimodal.preprocess import Tokenizer
from multimodal.zoo.formats.format import CONFIG, Checkpoint, read_config, refuse_tokenizer, third_party
from multimodal.zoo.formats.image_processor import read_transform
from multimodal.zoo.weights import CheckpointError, find_weights, read_json, read_weights

# What a config.json leaves out: the defaults of `CLIPConfig`, `SiglipConfig` and `BlipConfig` of transformers
DEFAULTS = json.loads(Path(__file__).with_name("transformers_defaults.json").read_text(encoding="utf-8"))
ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}


@dataclass(frozen=True)
class TransformersFormat:
    """A folder that `save_pretrained` has written, for the `model_types` of its config.json.

    read_model(table of config.json) -> config of our model
    read_tokenizer(folder, table, config of our text encoder or decoder) -> tokenizer
    convert_weights(state dict, config of our model) -> state dict by our names
    """

    model_types: tuple[str, ...]
    read_model: Callable[[dict[str, Any]], Any]
    read_tokenizer: Callable[[Path, dict[str, Any], Any], Tokenizer]
    convert_weights: Callable[[Mapping[str, Tensor], Any], dict[str, Tensor]]

    def recognises(self, path: Path) -> bool:
        return read_config(path).get("model_type") in self.model_types

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        refuse_tokenizer(path, tokenizer)
        table = read_json(path / CONFIG)
        config = self.read_model(table)
        encoders = encoder_configs(config)
        text = encoders.get("text") or config.decoder
        inputs = {
            "image": read_transform(path, table["model_type"], encoders["image"].image_size),
            "text": self.read_tokenizer(path, table, text),
        }
        file = find_weights(path)
        weights = self.convert_weights(read_weights(file), config)
        return third_party("transformers", path.name, file, config, weights, inputs)


def read_part(table: Mapping[str, Any], part: str) -> dict[str, Any]:
    """A part of a config.json with its defaults. Early files have a second table, which takes precedence."""
    defaults = DEFAULTS[table["model_type"]][part]
    found = defaults | (table.get(part) or {}) | (table.get(f"{part}_dict") or {})
    unusable = {key: found[key] for key, default in defaults.items() if not isinstance(found[key], type(default))}
    if unusable:
        raise CheckpointError(f"{part}: expected values like {defaults}, got {unusable}")
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
