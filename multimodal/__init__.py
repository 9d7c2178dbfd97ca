"""Build, train, measure and use image-text models.

>>> import multimodal as mm
>>> model = mm.load()
>>> model.classify("cat.jpg", ["cat", "dog"])  # doctest: +SKIP

Importing the package is cheap: each name, and each room such as `mm.evaluation`, is imported when it is first used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multimodal import datasets as datasets
    from multimodal import evaluation as evaluation
    from multimodal import generation as generation
    from multimodal import metrics as metrics
    from multimodal import preprocess as preprocess
    from multimodal import results as results
    from multimodal import tasks as tasks
    from multimodal import training as training
    from multimodal import web as web
    from multimodal import zoo as zoo
    from multimodal.generation import Beam, Greedy
    from multimodal.model import Model
    from multimodal.preprocess import ImageError
    from multimodal.results import Caption, Classification, Hit, Rejected, Results
    from multimodal.tasks import Index
    from multimodal.zoo.catalogue import models
    from multimodal.zoo.load import load

__version__ = "0.1.0"

__all__ = [
    "Beam",
    "Caption",
    "Classification",
    "Greedy",
    "Hit",
    "ImageError",
    "Index",
    "Model",
    "Rejected",
    "Results",
    "load",
    "models",
]

_NAMES = {  # public name -> its room
    **dict.fromkeys(("Caption", "Classification", "Hit", "Rejected", "Results"), "results"),
    "Beam": "generation",
    "Greedy": "generation",
    "ImageError": "preprocess",
    "Index": "tasks",
    "Model": "model",
    "load": "zoo",
    "models": "zoo",
}
_ROOMS = ("datasets", "evaluation", "generation", "metrics", "preprocess", "results", "tasks", "training", "web", "zoo")


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_ROOMS})


class _Package(ModuleType):
    """Keeps `multimodal.models` the function when the room `multimodal/models/` is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _NAMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
