"""The vector index and its store: vectors and paths only, independent of any model."""

from multimodal.retrieval.store import EmbeddingSpace, Entry, Store
from multimodal.retrieval.vectors import nearest

__all__ = ["EmbeddingSpace", "Entry", "Store", "nearest"]
