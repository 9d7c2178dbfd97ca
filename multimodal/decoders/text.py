"""Text decoder: the next token, from the tokens so far and a memory.

B = batch, L = new tokens, P = tokens before them (in the cache), M = memory length, W = width, V = vocabulary
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multimodal.config import check_one_of
from multimodal.decoders.decoder import DECODERS, Decoded, Decoder
from multimodal.layers.block import Block, BlockConfig, build_block, initialise
from multimodal.layers.cache import KVCache, Memory
from multimodal.layers.features import Encoded
from multimodal.layers.heads import build_head
from multimodal.layers.masks import causal_mask
from multimodal.layers.norm import build_norm
from multimodal.layers.positions import POSITIONS, RelativeBias, Rotary

CROSS_ATTENTION = ("in_block", "after_block")


@dataclass(frozen=True, kw_only=True)
class TextDecoderConfig(BlockConfig):
    vocab_size: int = 49408
    context_length: int = 77
    layers: int = 6
    positions: str = "learned"  # or "rotary", "relative"
    memory_width: int | None = None  # of the features to attend to; None: a plain language model
    # "in_block": between self-attention and MLP (Vaswani et al. 2017); "after_block": each block is followed by one
    # that only attends to the memory (open_clip's CoCa)
    cross_attention: str = "in_block"
    head: str = "linear"  # or "bert"
    tie_embeddings: bool = True  # the head shares the weights of the token embedding
    bos_id: int | None = None  # the first token of every text; None: the tokenizer's

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(CROSS_ATTENTION, cross_attention=self.cross_attention)
        check_one_of(POSITIONS, positions=self.positions)


class TextDecoder(Decoder):
    """(tokens [B, L], memory, cache) -> Decoded(logits [B, L, V], hidden [B, L, W])

    trunk: a causal text encoder whose embedding, positions and blocks are shared and run first (CoCa).
    """

    config: TextDecoderConfig

    def __init__(self, config: TextDecoderConfig, trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.embedding = nn.Embedding(config.vocab_size, width)
        kind = config.positions
        self.positions = nn.Parameter(torch.empty(config.context_length, width)) if kind == "learned" else None
        self.relative = RelativeBias(config.heads, bidirectional=False) if kind == "relative" else None
        rotary = Rotary(width // config.heads) if kind == "rotary" else None
        norm = build_norm(config.norm, width, config.eps)
        post_norm = config.norm_order == "post"
        self.embedding_norm = norm if post_norm else nn.Identity()
        self.blocks = nn.ModuleList(_blocks(config, rotary))
        self.norm = nn.Identity() if post_norm else norm
        self.head = build_head(config.head, width, config.vocab_size, config.activation, config.eps)
        initialise(self.embedding, self.positions, list(self.blocks))  # type: ignore[arg-type]
        if trunk is not None:
            self.share_trunk(trunk)
        if config.tie_embeddings:
            self.head.tie(self.embedding)

    def share_trunk(self, trunk: nn.Module) -> None:
        """Take everything of `trunk` up to its last block. Raises ValueError if the two configs do not match."""
        if not trunk.config.causal:  # type: ignore[union-attr]
            raise ValueError("trunk: expected a causal text encoder, got a bidirectional one")
        for key in ("vocab_size", "width", "positions", "norm_order"):
            expected, got = (getattr(config, key) for config in (trunk.config, self.config))
            if expected != got:
                raise ValueError(f"{key}: expected {expected!r}, the text encoder's, got {got!r}")
        for name in ("embedding", "positions", "relative", "embedding_norm"):
            setattr(self, name, getattr(trunk, name))
        self.blocks = nn.ModuleList([*trunk.blocks, *self.blocks])  # type: ignore[misc]

    def new_cache(self, capacity: int | None = None) -> KVCache:
        return KVCache(len(self.blocks), self.config.context_length if capacity is None else capacity)

    def project_memory(self, encoded: Encoded) -> Memory:
        """Raises ValueError for the output of an encoder that gives only a pooled vector."""
        if encoded.features is None:
            raise ValueError("memory: expected a sequence of features to attend to, got only a pooled vector")
        mask = None if encoded.mask is None else encoded.mask[:, None, None]  # [B, 1, 1, M]
        return Memory([block.project_memory(encoded.features) for block in self.blocks], mask)  # type: ignore[operator]

    def forward(self, tokens: Tensor, memory: Memory | None = None, cache: KVCache | None = None) -> Decoded:
        """With a `cache` from `new_cache`, `tokens` continue the tokens that it has stored.

        Raises ValueError for more tokens than `context_length`, and for a memory that is missing or not expected.
        """
        if (memory is None) != (self.config.memory_width is None):
            expected, got = ("none", "one") if self.config.memory_width is None else ("one", "none")
            raise ValueError(f"memory: expected {expected} (memory_width {self.config.memory_width}), got {got}")
        start, length = 0 if cache is None else cache.length, tokens.shape[1]
        end = start + length
        if end > self.config.context_length:
            raise ValueError(f"tokens: expected at most {self.config.context_length} in all, got {end}")
        x = self.embedding(tokens)  # [B, L] -> [B, L, W]
        if self.positions is not None:
            x = x + self.positions[start:end]
        x = self.embedding_norm(x)
        # A single new token attends to everything, and tokens without a past are plainly causal: no mask.
        causal = not start and length > 1 and self.relative is None
        mask = causal_mask(length, end, x.device) if length > 1 and not causal else None  # [L, P + L]
        if self.relative is not None:
            mask = self.relative(length, end, mask)  # [1, H, L, P + L]
        memory = Memory([None] * len(self.blocks)) if memory is None else memory
        for layer, (block, projected) in enumerate(zip(self.blocks, memory.layers, strict=True)):
            x = block(x, mask, causal, projected, memory.mask, cache, layer)
        if cache is not None:
            cache.advance(length)
        hidden = self.norm(x)
        return Decoded(self.head(hidden), hidden)


def _blocks(config: TextDecoderConfig, rotary: Rotary | None) -> Iterator[Block]:
    for _ in range(config.layers):
        if config.cross_attention == "in_block" or config.memory_width is None:
            yield build_block(config, config.memory_width, rotary=rotary)
        else:
            yield build_block(config, rotary=rotary)
            yield build_block(config, config.memory_width, self_attention=False)


DECODERS.register("text", TextDecoderConfig, TextDecoder)
