"""Text towers of transformers that architectures of open_clip name: their configs, so that no hub is asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.zoo.weights import CheckpointError

# The kinds of transformers that open_clip has text towers of, see its `hf_configs.py`
KINDS = ("bert", "m2m_100", "mt5", "roberta", "xlm-roberta")
TOWERS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


def tower_config(name: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the text tower called `name`: `beside`, the config of the folder, if it is one, or a known one.

    Raises CheckpointError if neither is.
    """
    if beside.get("model_type") in KINDS:
        return dict(beside)
    if name not in TOWERS:
        got = f"one of {beside['model_type']!r}" if beside.get("model_type") else "none"
        raise CheckpointError(f"text tower: expected the config.json of {name} beside the weights, got {got}")
    return TOWERS[name]
