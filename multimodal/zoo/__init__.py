"""Models by name, model folders, and checkpoints of other libraries."""

from multimodal.zoo.build import put_weights
from multimodal.zoo.catalogue import ModelEntry, Models, models
from multimodal.zoo.export import convert, download
from multimodal.zoo.formats import FORMATS, Checkpoint, Format
from multimodal.zoo.golden import verify
from multimodal.zoo.load import choose_device, fast_dtype, load
from multimodal.zoo.save import load_folder, save_folder, update_card
from multimodal.zoo.weights import CheckpointError, find_weights, read_weights, weights_sha256

__all__ = [
    "FORMATS", "Checkpoint", "CheckpointError", "Format", "ModelEntry", "Models", "choose_device", "convert",
    "download", "fast_dtype", "find_weights", "load", "load_folder", "models", "put_weights", "read_weights",
    "save_folder", "update_card", "verify", "weights_sha256",
]  # fmt: skip
