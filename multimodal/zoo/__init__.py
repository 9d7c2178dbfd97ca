"""Models by name and models in folders."""

from multimodal.zoo.folder import load_folder, put_weights, save_folder, update_card
from multimodal.zoo.golden import verify
from multimodal.zoo.load import Listed, choose_device, load, models

__all__ = [
    "Listed",
    "choose_device",
    "load",
    "load_folder",
    "models",
    "put_weights",
    "save_folder",
    "update_card",
    "verify",
]
