"""The vector index and its store. Vectors and paths only: nothing here has ever seen a model."""

from multimodal.retrieval.store import EmbeddingSpace, Entry, Store
from multimodal.retrieval.vectors import nearest

__all__ = ["EmbeddingSpace", "Entry", "Store", "nearest"]
