"""Weights from files of any origin, of which none is trusted."""

from multimodal.zoo.reading.refusal import WeightsError, reason
from multimodal.zoo.reading.weights import OPEN_CLIP_CONFIG, find_weights, order, read_weights, shards_of

__all__ = ["OPEN_CLIP_CONFIG", "WeightsError", "find_weights", "order", "read_weights", "reason", "shards_of"]
