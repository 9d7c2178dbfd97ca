"""Configs of the text towers of transformers that open_clip uses by name, so that no hub is asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.zoo.weights import CheckpointError

# The kinds of text towers that open_clip supports, see its `hf_configs.py`
KINDS = ("bert", "m2m_100", "mt5", "roberta", "xlm-roberta")
TOWERS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


def tower_config(name: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a text tower: `beside`, the config.json of the folder, if it is one, or a known one by `name`.

    Raises CheckpointError if there is neither.
    """
    if beside.get("model_type") in KINDS:
        return dict(beside)
    if name not in TOWERS:
        got = f"one of {beside['model_type']!r}" if beside.get("model_type") else "none"
        raise CheckpointError(f"text tower: expected the config.json of {name} beside the weights, got {got}")
    return TOWERS[name]
