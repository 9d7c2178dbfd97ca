"""The one transformer block: attention over earlier tokens, over a memory if there is one, and an MLP.

B = batch, L = tokens, M = memory length, W = width, H = heads, D = W / H
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.layers.cache import KVCache


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the activation of OpenAI's CLIP (its `model.py`)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


def activation_named(name: str) -> nn.Module:
    """The activation called `name`; ValueError lists the names there are."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {sorted(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, L, W] -> [B, L, H, D] -> [B, H, L, D]


def merge_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # [B, H, L, D] -> [B, L, H, D] -> [B, L, W]


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,  # [B, L, W]
        mask: Tensor | None = None,  # broadcasts to [B, H, L, L'], True = attend
        causal: bool = False,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))  # each [B, H, L, D]
        if cache is not None:
            k, v = cache.append(layer, k, v)  # [B, H, L', D], L' = all tokens so far
        return self.out(merge_heads(F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)))


class CrossAttention(nn.Module):
    """Multi-head attention to a memory [B, M, memory_width]."""

    def __init__(self, width: int, heads: int, memory_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(memory_width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, M, D] of `memory` [B, M, memory_width]: once per memory, not per token."""
        k, v = (split_heads(part, self.heads) for part in self.kv(memory).chunk(2, -1))
        return k, v

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        q = split_heads(self.q(x), self.heads)  # [B, H, L, D]
        return self.out(merge_heads(F.scaled_dot_product_attention(q, *keys_values, mask)))


class Block(nn.Module):
    """Pre-norm residual block; with `memory_width` it also cross-attends."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        dropout: float = 0.0,
        memory_width: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width: expected a multiple of {heads} heads, got {width}")
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps)
        self.attention = SelfAttention(width, heads)
        self.cross: CrossAttention | None = None
        if memory_width is not None:
            self.norm_cross = nn.LayerNorm(width, eps)
            self.cross = CrossAttention(width, heads, memory_width)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), activation_named(activation), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,  # [B, L, W]
        mask: Tensor | None = None,
        causal: bool = False,
        memory: tuple[Tensor, Tensor] | None = None,  # keys and values, each [B, H, M, D]
        memory_mask: Tensor | None = None,  # [B, 1, 1, M]
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), mask, causal, cache, layer))
        if self.cross is not None and memory is not None:
            x = x + self.dropout(self.cross(self.norm_cross(x), memory, memory_mask))
        return x + self.dropout(self.mlp(self.norm2(x)))
