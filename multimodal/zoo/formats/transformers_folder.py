"""What the folders of transformers have in common."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from multimodal.config import fill
from multimodal.models import encoder_configs
from multimodal.preprocess import Tokenizer
from multimodal.zoo.formats.format import CONFIG, Checkpoint, read_config, refuse_tokenizer, third_party
from multimodal.zoo.formats.image_processor import read_transform
from multimodal.zoo.weights import CheckpointError, find_weights, read_json, read_weights

# What a config.json leaves out: the defaults of `CLIPConfig`, `SiglipConfig` and `BlipConfig` of transformers
DEFAULTS = json.loads(Path(__file__).with_name("transformers_defaults.json").read_text(encoding="utf-8"))
TOWERS = {"vision": "image", "text": "text"}  # their names, and the modalities that they read
UNKNOWN_ID = -1  # for the end token of a text encoder whose config.json does not tell it
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

    read_model(table of config.json, see `with_parts`) -> config of our model
    read_tokenizer(folder, table, config of our text encoder or decoder) -> tokenizer
    convert_weights(state dict, config of our model) -> state dict by our names
    """

    model_types: tuple[str, ...]
    read_model: Callable[[dict[str, Any]], Any]
    read_tokenizer: Callable[[Path, dict[str, Any], Any], Tokenizer]
    convert_weights: Callable[[Mapping[str, Tensor], Any], dict[str, Tensor]]

    def recognises(self, path: Path) -> bool:
        return with_parts(read_config(path)).get("model_type") in self.model_types

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        refuse_tokenizer(path, tokenizer)
        table = with_parts(read_json(path / CONFIG))
        config = self.read_model(table)
        encoders = encoder_configs(config)
        text = encoders.get("text") or getattr(config, "decoder", None)
        inputs: dict[str, Any] = {}
        if "image" in encoders:
            inputs["image"] = read_transform(path, table["model_type"], encoders["image"].image_size)
        if text is not None:
            inputs["text"] = self.read_tokenizer(path, table, text)
            if getattr(text, "eos_id", None) == UNKNOWN_ID:
                config = fill(config, eos_id=inputs["text"].eos_id)
        file = find_weights(path)
        weights = self.convert_weights(read_weights(file), config)
        return third_party("transformers", path.name, file, config, weights, inputs)


def with_parts(table: dict[str, Any]) -> dict[str, Any]:
    """The config.json of one tower, such as CLIPVisionModelWithProjection, as one of a model with this part alone."""
    kind, _, part = str(table.get("model_type")).removesuffix("_model").rpartition("_")
    if part not in TOWERS:
        return table
    return table | {"model_type": kind, f"{part}_config": table, "tower": TOWERS[part]}


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
