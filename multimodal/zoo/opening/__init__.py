"""Checkpoints of others, opened: everything translated into what this package has, nothing built yet."""

from multimodal.zoo.opening.folder import open_folder
from multimodal.zoo.opening.foreign import TRANSFORMERS_CONFIG, Foreign, read_json, with_positions
from multimodal.zoo.opening.open_clip import open_open_clip
from multimodal.zoo.opening.salesforce import open_salesforce

__all__ = [
    "TRANSFORMERS_CONFIG",
    "Foreign",
    "open_folder",
    "open_open_clip",
    "open_salesforce",
    "read_json",
    "with_positions",
]
