"""Text encoder: a transformer over token ids, causal (CLIP, GPT) or bidirectional (BERT).

B = batch, L = tokens, W = width
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multimodal.layers import Block, initialise, lengths_until, padding_mask_from
from multimodal.outputs import Encoded


@dataclass(frozen=True)
class TextEncoderConfig:
    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    layers: int = 12
    heads: int = 8
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    causal: bool = True
    pooling: str = "eos"  # "eos" (the end token), "cls" (the first token) or "mean"
    eos_id: int = 49407
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.pooling not in ("eos", "cls", "mean"):
            raise ValueError(f"pooling: expected 'eos', 'cls' or 'mean', got {self.pooling!r}")


class TextEncoder(nn.Module):
    """tokens [B, L] -> Encoded(features [B, L', W], pooled [B, W], padding_mask [B, L']).

    A text ends with its first `eos_id`, or where `padding_mask` [B, L] says so. L' is the longest text of the
    batch: nothing is computed on columns that are padding in every row.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.context_length, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, config.activation, config.dropout)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        initialise(self.embedding, self.positions, self.blocks)

    def forward(self, tokens: Tensor, padding_mask: Tensor | None = None) -> Encoded:
        if tokens.shape[1] > self.config.context_length:
            raise ValueError(
                f"tokens: expected at most {self.config.context_length} a text, got {tokens.shape[1]}"
            )
        lengths = (
            lengths_until(tokens, self.config.eos_id) if padding_mask is None else padding_mask.sum(1)
        )  # [B]
        longest = int(lengths.max()) if len(lengths) else 1
        tokens = tokens[:, :longest]  # [B, L] -> [B, L']
        padding_mask = padding_mask_from(lengths, longest)  # [B, L']
        # A causal text never looks right, where its padding is; a bidirectional one must not see it.
        mask = None if self.config.causal else padding_mask[:, None, None]  # [B, 1, 1, L']
        x = self.embedding(tokens) + self.positions[:longest]  # [B, L', W]
        for block in self.blocks:
            x = block(x, mask, causal=self.config.causal)
        features = self.norm(x)
        return Encoded(features, self.pool(features, lengths, padding_mask), padding_mask)

    def pool(self, features: Tensor, lengths: Tensor, padding_mask: Tensor) -> Tensor:
        """[B, L', W] -> [B, W]"""
        if self.config.pooling == "eos":
            return features[torch.arange(len(features), device=features.device), lengths - 1]
        if self.config.pooling == "cls":
            return features[:, 0]
        real = padding_mask[..., None].to(features.dtype)  # [B, L', 1]
        return (features * real).sum(1) / real.sum(1)
