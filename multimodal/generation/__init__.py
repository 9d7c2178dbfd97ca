"""Decoding strategies: from logits to tokens, without knowing any model."""

from multimodal.generation.beam import Beam
from multimodal.generation.greedy import Greedy
from multimodal.generation.strategy import STRATEGIES, Generated, Strategy, describe, parse_strategy, with_defaults

__all__ = ["STRATEGIES", "Beam", "Generated", "Greedy", "Strategy", "describe", "parse_strategy", "with_defaults"]
