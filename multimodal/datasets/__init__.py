"""Where samples come from, and how they become batches."""

from multimodal.datasets.cache import load_images
from multimodal.datasets.folder import read_folder
from multimodal.datasets.mixture import Batch, Mixture
from multimodal.datasets.opening import open_source
from multimodal.datasets.part import DataConfig
from multimodal.datasets.sample import Sample, Source
from multimodal.datasets.shapes import DrawnShapes, draw_shapes
from multimodal.datasets.table import read_table
from multimodal.datasets.tar import read_tar

__all__ = [
    "Batch",
    "DataConfig",
    "DrawnShapes",
    "Mixture",
    "Sample",
    "Source",
    "draw_shapes",
    "load_images",
    "open_source",
    "read_folder",
    "read_table",
    "read_tar",
]
