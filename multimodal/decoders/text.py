"""Text decoder: the next token, from the tokens so far and a memory to look at.

B = batch, L = new tokens, P = tokens before them (in the cache), M = memory length, W = width, V = vocabulary
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from multimodal.layers import Block, KVCache, activation_named, causal_mask, initialise
from multimodal.layers.features import Encoded


@dataclass(frozen=True)
class TextDecoderConfig:
    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    layers: int = 6
    heads: int = 8
    memory_width: int | None = None  # None: nothing to look at, a plain language model
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    tie_embeddings: bool = True  # the head shares its weights with the token embedding
    dropout: float = 0.0
    norm: str = "pre"  # "post": as BERT has it, with a norm of the embeddings and a layer before the head
    eps: float = 1e-5
    bos_id: int | None = None  # what sentences begin with; None: the tokenizer's
    # CoCa as open_clip has it: the first layers are those of the text encoder, embedding and all, and look at
    # nothing; each of the others is followed by a block that looks at the memory alone
    shared_layers: int = 0
    memory_blocks: bool = False


class TextDecoder(nn.Module):
    """(tokens [B, L], memory, cache) -> logits [B, L, V]; a token sees those before it and the memory."""

    def __init__(self, config: TextDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.context_length, config.width))
        self.embedding_norm = (
            nn.LayerNorm(config.width, config.eps) if config.norm == "post" else nn.Identity()
        )
        self.blocks = nn.ModuleList(_blocks(config))
        self.transform: nn.Module = nn.Identity()
        if config.norm == "post":
            dense = nn.Linear(config.width, config.width)
            self.transform = nn.Sequential(dense, activation_named(config.activation))
        self.norm = nn.LayerNorm(config.width, config.eps)
        self.head = nn.Linear(config.width, config.vocab_size, bias=config.norm == "post")
        initialise(self.embedding, self.positions, self.blocks)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        else:
            nn.init.normal_(self.head.weight, std=0.02)

    def share(self, embedding: nn.Embedding, positions: nn.Parameter, blocks: nn.ModuleList) -> None:
        """Take those of a text encoder for its own, the blocks as the first `shared_layers`."""
        shared = self.config.shared_layers
        if shared != len(blocks):
            raise ValueError(
                f"shared_layers: expected {len(blocks)}, those of the text encoder, got {shared}"
            )
        self.embedding, self.positions = embedding, positions
        self.blocks = nn.ModuleList([*blocks, *self.blocks[shared:]])

    def new_cache(self, memory: Encoded | None = None) -> KVCache:
        """An empty cache with the keys and values of `memory` computed, once for all tokens to come."""
        if (memory is None) != (self.config.memory_width is None):
            raise ValueError(
                f"memory: expected {'none' if self.config.memory_width is None else 'one'}, got "
                f"{'none' if memory is None else 'one'} (memory_width {self.config.memory_width})"
            )
        if memory is None:
            return KVCache([None] * len(self.blocks))
        pairs: list[tuple[Tensor, Tensor] | None] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            pairs.append(block.look_at(memory.features))
        mask = None if memory.padding_mask is None else memory.padding_mask[:, None, None]  # [B, 1, 1, M]
        return KVCache(pairs, mask)

    def forward(self, tokens: Tensor, memory: Encoded | None = None, cache: KVCache | None = None) -> Tensor:
        """With a `cache` from `new_cache`, `tokens` continue what it has seen and `memory` is not needed."""
        keep = cache is not None
        if cache is None:
            cache = self.new_cache(memory)
        before, length = cache.length, tokens.shape[1]
        if before + length > self.config.context_length:
            raise ValueError(
                f"tokens: expected at most {self.config.context_length} in all, got {before + length}"
            )
        x = self.embedding_norm(
            self.embedding(tokens) + self.positions[before : before + length]
        )  # [B, L, W]
        # One new token sees everything: no mask. A prefix is plainly causal. Between the two, a mask says it.
        mask = causal_mask(length, before + length, x.device) if before and length > 1 else None
        for layer, block in enumerate(self.blocks):
            x = block(
                x,
                mask,
                causal=not before and length > 1,
                memory=cache.memory[layer],
                memory_mask=cache.memory_mask,
                cache=cache if keep else None,
                layer=layer,
            )
        return self.head(self.norm(self.transform(x)))  # [B, L, W] -> [B, L, V]


def _blocks(config: TextDecoderConfig) -> list[Block]:
    block = partial(
        Block,
        config.width,
        config.heads,
        config.mlp_ratio,
        config.activation,
        config.dropout,
        norm=config.norm,
        eps=config.eps,
    )
    blocks = [block() for _ in range(config.shared_layers)]
    for _ in range(config.layers):
        if config.memory_blocks:
            blocks += [block(), block(memory_width=config.memory_width, memory_only=True)]
        else:
            blocks.append(block(memory_width=config.memory_width))
    return blocks
