"""Build, train, measure and use image-text models.

>>> import multimodal as mm
>>> model = mm.load()
>>> model.classify("cat.jpg", ["cat", "dog"])  # doctest: +SKIP

Importing the package is cheap: each name, and each room such as `mm.evaluation`, is imported when it is first used.
"""

import importlib
import importlib.util
import pkgutil
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import datasets, evaluation, generation, metrics, preprocess, results, tasks, training, web, zoo  # noqa: F401
    from .generation import Beam as Beam
    from .generation import Greedy as Greedy
    from .model import Model as Model
    from .preprocess import ImageError as ImageError
    from .results import Caption as Caption
    from .results import Classification as Classification
    from .results import Hit as Hit
    from .results import Rejected as Rejected
    from .results import Results as Results
    from .tasks import Index as Index
    from .zoo.catalogue import models as models
    from .zoo.load import load as load

__version__ = "0.1.0"

_ROOM_OF = {  # public name -> the room that defines it
    **dict.fromkeys(("Caption", "Classification", "Hit", "Rejected", "Results"), "results"),
    **dict.fromkeys(("Beam", "Greedy"), "generation"),
    **dict.fromkeys(("load", "models"), "zoo"),
    **{"ImageError": "preprocess", "Index": "tasks", "Model": "model"},
}
__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        return getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    room = f"{__name__}.{name}"
    if importlib.util.find_spec(room) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(room)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *(room.name for room in pkgutil.iter_modules(__path__))})


class _Package(ModuleType):
    """Keeps `multimodal.models` the function when the room `multimodal/models/` is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _ROOM_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
