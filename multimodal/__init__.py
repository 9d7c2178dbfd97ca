"""Build, train, measure and use image-text models.

>>> import multimodal as mm
>>> model = mm.load()
>>> model.classify("cat.jpg", ["cat", "dog"])  # doctest: +SKIP
"""

from multimodal.model import Model
from multimodal.preprocess import ImageError
from multimodal.results import Caption, Classification, Hit, Rejected, Results
from multimodal.tasks import Index
from multimodal.zoo import load, models

__version__ = "0.1.0"

__all__ = [
    "Caption",
    "Classification",
    "Hit",
    "ImageError",
    "Index",
    "Model",
    "Rejected",
    "Results",
    "load",
    "models",
]
