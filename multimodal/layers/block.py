"""The one transformer block: attention among the tokens, to a memory, and an MLP, each with a residual.

B = batch, L = tokens, M = memory length, W = width, H = heads, D = W / H
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.layers.cache import KVCache


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the activation of OpenAI's CLIP (its `model.py`)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
}


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
    """Residual block: attention among the tokens, to a memory of `memory_width` if there is one, and an MLP.

    norm: "pre", before each part (GPT, CLIP), or "post", after each sum (BERT). memory_only: without attention
    among the tokens, and with a norm of its own for the memory (CoCa, as open_clip has it).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        dropout: float = 0.0,
        memory_width: int | None = None,
        *,
        memory_only: bool = False,
        norm: str = "pre",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width: expected a multiple of {heads} heads, got {width}")
        if norm not in ("pre", "post"):
            raise ValueError(f"norm: expected 'pre' or 'post', got {norm!r}")
        hidden = round(width * mlp_ratio)
        self.norm_first = norm == "pre"
        self.attention: SelfAttention | None = None
        self.cross: CrossAttention | None = None
        self.norm_memory: nn.LayerNorm | None = None
        if not memory_only:
            self.norm1 = nn.LayerNorm(width, eps)
            self.attention = SelfAttention(width, heads)
        if memory_width is not None:
            self.norm_cross = nn.LayerNorm(width, eps)
            self.cross = CrossAttention(width, heads, memory_width)
            self.norm_memory = nn.LayerNorm(memory_width, eps) if memory_only else None
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), activation_named(activation), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dropout)

    def look_at(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        """The `memory` of `forward` for features [B, M, memory_width]; None where the block looks at none."""
        if self.cross is None:
            return None
        return self.cross.keys_values(features if self.norm_memory is None else self.norm_memory(features))

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
        if self.attention is not None:
            x = self.add(
                x, self.norm1, partial(self.attention, mask=mask, causal=causal, cache=cache, layer=layer)
            )
        if self.cross is not None and memory is not None:
            x = self.add(x, self.norm_cross, partial(self.cross, keys_values=memory, mask=memory_mask))
        return self.add(x, self.norm2, self.mlp)

    def add(self, x: Tensor, norm: nn.LayerNorm, part: Callable[[Tensor], Tensor]) -> Tensor:
        """x and what `part` makes of it."""
        return x + self.dropout(part(norm(x))) if self.norm_first else norm(x + self.dropout(part(x)))
