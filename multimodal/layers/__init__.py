"""The parts that encoders and decoders are made of."""

from multimodal.layers.block import Block, CrossAttention, activation_named, merge_heads, split_heads
from multimodal.layers.cache import KVCache
from multimodal.layers.initialise import initialise
from multimodal.layers.masks import causal_mask, lengths_until, padding_mask_from
from multimodal.layers.stem import ConvStem

__all__ = [
    "Block",
    "ConvStem",
    "CrossAttention",
    "KVCache",
    "activation_named",
    "causal_mask",
    "initialise",
    "lengths_until",
    "merge_heads",
    "padding_mask_from",
    "split_heads",
]
