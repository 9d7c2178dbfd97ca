"""The parts that encoders and decoders are made of."""

from multimodal.layers.attention import CrossAttention, SelfAttention, attend, merge_heads, split_heads
from multimodal.layers.block import Block, BlockConfig, build_block, initialise
from multimodal.layers.cache import KVCache, Memory
from multimodal.layers.features import Encoded
from multimodal.layers.heads import BertHead, LinearHead, build_head
from multimodal.layers.masks import causal_mask, lengths_until, mask_from_lengths
from multimodal.layers.mlp import GatedMLP, build_activation, mlp
from multimodal.layers.norm import build_norm
from multimodal.layers.positions import POSITIONS, RelativeBias, Rotary, resize_positions
from multimodal.layers.stem import ConvStem

__all__ = [
    "POSITIONS", "BertHead", "Block", "BlockConfig", "ConvStem", "CrossAttention", "Encoded", "GatedMLP", "KVCache",
    "LinearHead", "Memory", "RelativeBias", "Rotary", "SelfAttention", "attend", "build_activation", "build_block",
    "build_head", "build_norm", "causal_mask", "initialise", "lengths_until", "mask_from_lengths", "merge_heads", "mlp",
    "resize_positions", "split_heads",
]  # fmt: skip
