"""Text encoder: a transformer over token ids, causal (CLIP, GPT) or bidirectional (BERT).

B = batch, L = tokens, L' = those of them that are computed, M = memory length, W = width
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multimodal.encoders.encoder import Encoder
from multimodal.layers import Block, causal_mask, initialise, lengths_until, padding_mask_from
from multimodal.layers.features import Encoded

POOLINGS = ("eos", "cls", "mean", "last", "appended")


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
    # "eos", the first end token; "cls", the first token; "mean"; "last", of context_length;
    # "appended", a learned token after the text, which attends as open_clip's CoCa does
    pooling: str = "eos"
    eos_id: int = 49407
    pad_id: int = 0
    attends_padding: bool = False  # bidirectional texts that are read with their padding (SigLIP, MobileCLIP)
    dropout: float = 0.0
    norm: str = "pre"  # "post": as BERT has it, with a norm of the embeddings and none at the end
    eps: float = 1e-5
    memory_width: int | None = None  # of a picture that the blocks can look at too (BLIP)

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: expected one of {POOLINGS}, got {self.pooling!r}")
        if self.pooling == "last" and not self.attends_padding:
            raise ValueError("pooling: expected another than 'last' where padding is not attended to, got it")
        if self.attends_padding and self.causal:
            raise ValueError("attends_padding: expected False for a causal text, got True")


class TextEncoder(Encoder):
    """tokens [B, L] -> Encoded(features [B, L', W], pooled [B, W], padding_mask [B, L']).

    A text ends with its first `eos_id`, or where `padding_mask` [B, L] says so. L' is the longest text of the
    batch: nothing is computed on columns that are padding in every row, unless the network attends to them.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.appended: nn.Parameter | None = None
        places = config.context_length
        if config.pooling == "appended":
            self.appended = nn.Parameter(0.01 * torch.randn(config.width))
            places += 1
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(places, config.width))
        self.embedding_norm = (
            nn.LayerNorm(config.width, config.eps) if config.norm == "post" else nn.Identity()
        )
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.mlp_ratio,
                config.activation,
                config.dropout,
                config.memory_width,
                norm=config.norm,
                eps=config.eps,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.Identity() if config.norm == "post" else nn.LayerNorm(config.width, config.eps)
        initialise(self.embedding, self.positions, self.blocks)

    def forward(
        self, tokens: Tensor, padding_mask: Tensor | None = None, memory: Encoded | None = None
    ) -> Encoded:
        """`memory`: what the blocks look at, for those that can (BLIP's matching and questions)."""
        config = self.config
        if tokens.shape[1] > config.context_length:
            raise ValueError(
                f"tokens: expected at most {config.context_length} a text, got {tokens.shape[1]}"
            )
        if config.attends_padding and tokens.shape[1] < config.context_length:
            raise ValueError(f"tokens: expected {config.context_length} with padding, got {tokens.shape[1]}")
        lengths = lengths_until(tokens, config.eos_id) if padding_mask is None else padding_mask.sum(1)  # [B]
        if self.appended is not None:
            return self.with_appended(tokens, lengths, self.appended)
        longest = int(lengths.max()) if len(lengths) and not config.attends_padding else tokens.shape[1]
        tokens = tokens[:, :longest]  # [B, L] -> [B, L']
        padding_mask = padding_mask_from(lengths, longest)  # [B, L']
        # A causal text never looks right, where its padding is.
        unmasked = config.causal or config.attends_padding
        mask = None if unmasked else padding_mask[:, None, None]  # [B, 1, 1, L']
        x = self.embedding_norm(self.embedding(tokens) + self.positions[:longest])  # [B, L', W]
        memory_mask = None
        if memory is not None and memory.padding_mask is not None:
            memory_mask = memory.padding_mask[:, None, None]  # [B, 1, 1, M]
        for block in self.blocks:
            assert isinstance(block, Block)
            seen = None if memory is None else block.look_at(memory.features)
            x = block(x, mask, causal=config.causal, memory=seen, memory_mask=memory_mask)
        features = self.norm(x)
        return Encoded(features, self.pool(features, lengths, padding_mask), padding_mask)

    def pool(self, features: Tensor, lengths: Tensor, padding_mask: Tensor) -> Tensor:
        """[B, L', W] -> [B, W]"""
        if self.config.pooling == "eos":
            return features[torch.arange(len(features), device=features.device), lengths - 1]
        if self.config.pooling == "cls":
            return features[:, 0]
        if self.config.pooling == "last":
            return features[:, -1]
        real = padding_mask[..., None].to(features.dtype)  # [B, L', 1]
        return (features * real).sum(1) / real.sum(1)

    def with_appended(self, tokens: Tensor, lengths: Tensor, appended: Tensor) -> Encoded:
        """CoCa's. Its weights were trained with a mask that is one place off, in open_clip's
        `TextTransformer._build_additive_mask`: key j counts where token j - 1 is not padding, so that the
        appended token sees the first padding and, unless the text is full, not itself.
        """
        kept = min(int(lengths.max()) + 1 if len(lengths) else 1, tokens.shape[1])
        tokens = tokens[:, :kept]  # [B, L']
        end = appended.expand(len(tokens), 1, -1)  # [B, 1, W]
        positions = torch.cat([self.positions[:kept], self.positions[-1:]])  # [L' + 1, W]
        x = torch.cat([self.embedding(tokens), end], 1) + positions  # [B, L' + 1, W]
        real = tokens != self.config.pad_id
        keys = torch.cat([torch.ones_like(real[:, :1]), real], 1)  # [B, L' + 1]
        mask = causal_mask(kept + 1, kept + 1, tokens.device) & keys[:, None, None]  # [B, 1, L' + 1, L' + 1]
        for block in self.blocks:
            x = block(x, mask)
        return Encoded(x[:, :-1], self.norm(x[:, -1]), padding_mask_from(lengths, kept))
