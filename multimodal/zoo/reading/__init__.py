"""Weights from files of any origin, of which none is trusted."""

from multimodal.zoo.reading.refusal import WeightsError
from multimodal.zoo.reading.weights import FILES, find_weights, read_weights, shards_of

__all__ = ["FILES", "WeightsError", "find_weights", "read_weights", "shards_of"]
