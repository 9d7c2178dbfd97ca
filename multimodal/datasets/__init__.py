"""Data sources, and how their samples become batches."""

from multimodal.datasets.cached_source import DataConfig
from multimodal.datasets.mixture import Batch, Mixture
from multimodal.datasets.sample import Entry, Sample, Source
from multimodal.datasets.shapes import DrawnShapes, draw_shapes
from multimodal.datasets.sources import SOURCES, SampleError, SourceOptions, SourceReader, make_entry, open_source

__all__ = [
    "SOURCES",
    "Batch",
    "DataConfig",
    "DrawnShapes",
    "Entry",
    "Mixture",
    "Sample",
    "SampleError",
    "Source",
    "SourceOptions",
    "SourceReader",
    "draw_shapes",
    "make_entry",
    "open_source",
]
