"""The one transformer block, assembled from parts: attention, cross-attention and an MLP, each with a residual.

B = batch, L = tokens, M = memory length, W = width
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from multimodal.config import check_one_of
from multimodal.layers.attention import CrossAttention, KeysValues, SelfAttention
from multimodal.layers.cache import KVCache
from multimodal.layers.mlp import MLPS
from multimodal.layers.norm import build_norm
from multimodal.layers.positions import Rotary

NORM_ORDERS = ("pre", "post")


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """The fields that all our transformers share; `build_block` makes a block of them."""

    width: int = 512
    layers: int = 12
    heads: int = 8
    mlp: str = "plain"  # or "gated"
    mlp_ratio: float = 4.0  # hidden width of the MLP / width
    activation: str = "gelu"
    norm: str = "layer"  # or "rms"
    norm_order: str = "pre"  # before each part (GPT, CLIP), or "post", after each sum (BERT)
    eps: float = 1e-5
    bias: bool = True  # of the linear layers
    dropout: float = 0.0
    attention_scale: float | None = None  # of the scores; None: 1 / sqrt(width of a head)

    def __post_init__(self) -> None:
        for key in ("width", "heads"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected at least 1, got {getattr(self, key)}")
        if self.width % self.heads:
            raise ValueError(f"width: expected a multiple of {self.heads} heads, got {self.width}")
        check_one_of(NORM_ORDERS, norm_order=self.norm_order)
        check_one_of(tuple(MLPS), mlp=self.mlp)


class Block(nn.Module):
    """Residual block around the parts that it is given; a part that is None is left out.

    norm: makes the norm of one part. post_norm: normalise after each sum instead of before each part.
    """

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        attention: SelfAttention | None,
        cross: CrossAttention | None,
        mlp: nn.Module,
        post_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.attention, self.cross, self.mlp = attention, cross, mlp
        if attention is not None:
            self.norm1 = norm()
        if cross is not None:
            self.norm_cross = norm()
        self.norm2 = norm()
        self.dropout = nn.Dropout(dropout)

    def project_memory(self, features: Tensor) -> KeysValues | None:
        """The `memory` of `forward` for features [B, M, memory_width]; None for a block without cross-attention."""
        return None if self.cross is None else self.cross.project_memory(features)

    def forward(
        self,
        x: Tensor,  # [B, L, W]
        mask: Tensor | None = None,  # broadcasts to [B, H, L, M], see `attend`
        causal: bool = False,
        memory: KeysValues | None = None,  # each [B, H, M, D]
        memory_mask: Tensor | None = None,  # [B, 1, 1, M] bool, True = attend
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        if self.attention is not None:
            attention = partial(self.attention, mask=mask, causal=causal, cache=cache, layer=layer)
            x = self.add(x, self.norm1, attention)
        if self.cross is not None and memory is not None:
            x = self.add(x, self.norm_cross, partial(self.cross, memory=memory, mask=memory_mask))
        return self.add(x, self.norm2, self.mlp)

    def add(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        """The residual sum of x and the output of `part`."""
        return norm(x + self.dropout(part(x))) if self.post_norm else x + self.dropout(part(norm(x)))


def build_block(
    config: BlockConfig, memory_width: int | None = None, *, self_attention: bool = True, rotary: Rotary | None = None
) -> Block:
    """A block with cross-attention to a memory of `memory_width`, if given.

    Without self_attention the block only attends to the memory, which then has a norm of its own (CoCa).
    """
    norm = partial(build_norm, config.norm, eps=config.eps)
    width, heads, bias, scale = config.width, config.heads, config.bias, config.attention_scale
    attention = SelfAttention(width, heads, bias, rotary, scale) if self_attention else None
    cross = None
    if memory_width is not None:
        norm_memory = None if self_attention else norm(memory_width)
        cross = CrossAttention(width, heads, memory_width, bias, norm_memory, scale)
    mlp = MLPS[config.mlp](width, round(width * config.mlp_ratio), config.activation, bias)
    return Block(partial(norm, width), attention, cross, mlp, config.norm_order == "post", config.dropout)


def initialise(embedding: nn.Embedding, positions: nn.Parameter | None, blocks: list[Block]) -> None:
    """Radford et al. 2021 (CLIP's `initialize_parameters`): normal, residual outputs scaled by depth."""
    nn.init.normal_(embedding.weight, std=0.02)
    if positions is not None:
        nn.init.normal_(positions, std=0.01)
    width = embedding.embedding_dim
    for block in blocks:
        for name, linear in block.named_modules():
            if not isinstance(linear, nn.Linear):
                continue
            std = width**-0.5
            if name in ("attention.out", "cross.out", "mlp.2", "mlp.down"):  # added to the residual stream
                std *= (2 * len(blocks)) ** -0.5
            elif name in ("mlp.0", "mlp.gate", "mlp.up"):
                std = (2 * width) ** -0.5
            nn.init.normal_(linear.weight, std=std)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
