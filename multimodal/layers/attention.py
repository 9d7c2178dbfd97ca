"""Multi-head attention: of a sequence to itself, and to a memory.

B = batch, L = queries, M = keys, W = width, H = heads, D = W / H
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.layers.cache import KVCache
from multimodal.layers.positions import Rotary

KeysValues = tuple[Tensor, Tensor]  # each [B, H, M, D]


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, L, W] -> [B, L, H, D] -> [B, H, L, D]


def merge_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # [B, H, L, D] -> [B, L, H, D] -> [B, L, W]


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1), q [B, H, L, D], k, v [B, H, M, D].

    mask broadcasts to [B, H, L, M]: bool, True = attend, or a float bias that is added to the scores. The scores
    are multiplied by `scale`, 1 / sqrt(D) by default.

    A single query on a CPU, which is every token of a decoder with a cache, is computed as three plain
    operations: in bfloat16 they take a quarter of the time of `scaled_dot_product_attention`.
    """
    if q.shape[2] > 1 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (k @ (q * scale).transpose(2, 3)).transpose(2, 3)  # [B, H, M, D] @ [B, H, D, 1] -> [B, H, 1, M]
    if causal:  # with as many keys as queries, the first query attends to the first key
        scores, v = scores[..., :1], v[:, :, :1]
    elif mask is not None and mask.dtype == torch.bool:
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return weights.masked_fill(~mask, 0) @ v  # 0 if a query attends to nothing
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1).to(v.dtype) @ v


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself (Vaswani et al. 2017, section 3.2).

    rotary: rotates queries and keys by their positions; it is shared by all layers. scale: see `attend`.
    """

    def __init__(
        self, width: int, heads: int, bias: bool = True, rotary: Rotary | None = None, scale: float | None = None
    ) -> None:
        super().__init__()
        self.heads, self.rotary, self.scale = heads, rotary, scale
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x: Tensor,  # [B, L, W]
        mask: Tensor | None = None,  # broadcasts to [B, H, L, M]
        causal: bool = False,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))  # each [B, H, L, D]
        if self.rotary is not None:
            start = 0 if cache is None else cache.length
            q, k = self.rotary(q, start), self.rotary(k, start)
        if cache is not None:
            k, v = cache.append(layer, k, v)  # [B, H, M, D], M = all tokens so far
        return self.out(merge_heads(attend(q, k, v, mask, causal, self.scale)))


class CrossAttention(nn.Module):
    """Multi-head attention to a memory [B, M, memory_width].

    norm_memory: a norm of the memory before its keys and values are computed (CoCa).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        memory_width: int,
        bias: bool = True,
        norm_memory: nn.Module | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.norm_memory = nn.Identity() if norm_memory is None else norm_memory
        self.q = nn.Linear(width, width, bias=bias)
        self.kv = nn.Linear(memory_width, 2 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def project_memory(self, memory: Tensor) -> KeysValues:
        """memory [B, M, memory_width] -> keys and values [B, H, M, D], computed once for all tokens to come."""
        k, v = (split_heads(part, self.heads) for part in self.kv(self.norm_memory(memory)).chunk(2, -1))
        return k, v

    def forward(self, x: Tensor, memory: KeysValues, mask: Tensor | None = None) -> Tensor:
        """x [B * K, L, W] attends to memory [B, H, M, D]; mask [B, 1, 1, M] bool, True = attend.

        The K rows of x that follow each other share a row of the memory (beams of one image): they are K * L
        queries of that row, and the memory is never copied.
        """
        rows = len(memory[0])
        beams = len(x) // max(rows, 1)  # K
        q = self.q(x).unflatten(0, (rows, beams)).flatten(1, 2)  # [B * K, L, W] -> [B, K * L, W]
        y = merge_heads(attend(split_heads(q, self.heads), *memory, mask, scale=self.scale))  # [B, K * L, W]
        return self.out(y.reshape(x.shape))  # [B, K * L, W] -> [B * K, L, W]
