"""Data sources, and how their samples become batches."""

from multimodal.datasets.cached_source import DataConfig
from multimodal.datasets.mixture import Batch, Mixture
from multimodal.datasets.sample import Entry, Sample, SampleError, Source
from multimodal.datasets.shapes import draw_shapes
from multimodal.datasets.sources import SOURCES, SourceOptions, make_entry, open_source

__all__ = [
    "SOURCES", "Batch", "DataConfig", "Entry", "Mixture", "Sample", "SampleError", "Source", "SourceOptions",
    "draw_shapes", "make_entry", "open_source",
]  # fmt: skip
