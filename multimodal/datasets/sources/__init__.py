"""Data formats, one file each, and their registry `SOURCES`."""

from multimodal.datasets.sources.folder import FolderReader
from multimodal.datasets.sources.lines import LinesReader
from multimodal.datasets.sources.record import SourceOptions, make_entry
from multimodal.datasets.sources.registry import SOURCES, open_source
from multimodal.datasets.sources.table import TableReader
from multimodal.datasets.sources.tar import TarReader

# The last one is asked first: a folder may hold shards, a table and folders of images at once.
SOURCES.register("lines", LinesReader())
SOURCES.register("folder", FolderReader())
SOURCES.register("table", TableReader())
SOURCES.register("tar", TarReader())

__all__ = ["SOURCES", "SourceOptions", "make_entry", "open_source"]
