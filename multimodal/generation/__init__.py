"""From logits to sentences; knows no model."""

from multimodal.generation.generate import Generated, beam_search, generate, greedy
from multimodal.generation.strategy import STRATEGIES, Beam, Greedy, Strategy, describe, parse_strategy

__all__ = [
    "STRATEGIES",
    "Beam",
    "Generated",
    "Greedy",
    "Strategy",
    "beam_search",
    "describe",
    "generate",
    "greedy",
    "parse_strategy",
]
