"""From logits to sentences; knows no model."""

from multimodal.generation.generate import Generated, beam_search, generate, greedy

__all__ = ["Generated", "beam_search", "generate", "greedy"]
