"""Text encoder: a transformer over token ids, causal (CLIP, GPT) or bidirectional (BERT).

B = batch, L = tokens, L' = tokens that are computed, M = memory length, W = width
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multimodal.config import check_one_of
from multimodal.encoders.encoder import ENCODERS, Encoder
from multimodal.layers.block import BlockConfig, build_block, initialise
from multimodal.layers.features import Encoded
from multimodal.layers.masks import causal_mask, lengths_until, mask_from_lengths
from multimodal.layers.norm import build_norm
from multimodal.layers.positions import POSITIONS, RelativeBias, Rotary

POOLINGS = ("eos", "cls", "mean", "last", "appended")
# What 'appended' pooling requires
APPENDED = {"causal": True, "norm_order": "pre", "positions": "learned", "memory_width": None}


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig(BlockConfig):
    vocab_size: int = 49408
    context_length: int = 77
    causal: bool = True
    positions: str = "learned"  # or "rotary", "relative"
    # "eos", the first end token; "cls", the first token; "mean"; "last", the token at context_length - 1;
    # "appended", a learned token after the text, masked as in open_clip's CoCa
    pooling: str = "eos"
    eos_id: int = 49407
    pad_id: int = 0
    attends_padding: bool = False  # bidirectional texts that are read with their padding (SigLIP, MobileCLIP)
    memory_width: int | None = None  # of the features that the blocks can cross-attend to (BLIP)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(POOLINGS, pooling=self.pooling)
        check_one_of(POSITIONS, positions=self.positions)
        if self.pooling == "last" and not self.attends_padding:
            raise ValueError("pooling: 'last' requires attends_padding = true, got false")
        if self.attends_padding and self.causal:
            raise ValueError("attends_padding: expected False for a causal text, got True")
        for key, value in APPENDED.items() if self.pooling == "appended" else ():
            if getattr(self, key) != value:
                raise ValueError(f"{key}: expected {value!r} for 'appended' pooling, got {getattr(self, key)!r}")


class TextEncoder(Encoder):
    """tokens [B, L] -> Encoded(features [B, L', W], pooled [B, W], mask [B, L']).

    A text ends with its first `eos_id`, or where `mask` [B, L] says so. L' is the longest text of the batch:
    columns that are padding in every row are not computed, unless the network attends to padding.
    """

    modality = "text"

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.shares_prefixes = (
            config.causal and config.pooling == "eos" and config.norm_order == "pre" and config.positions == "learned"
        )
        self.embedding = nn.Embedding(config.vocab_size, width)
        appends, kind = config.pooling == "appended", config.positions
        self.appended = nn.Parameter(0.01 * torch.randn(width)) if appends else None
        length = config.context_length + appends
        self.positions = nn.Parameter(torch.empty(length, width)) if kind == "learned" else None
        self.relative = RelativeBias(config.heads, bidirectional=not config.causal) if kind == "relative" else None
        rotary = Rotary(width // config.heads) if kind == "rotary" else None
        norm = build_norm(config.norm, width, config.eps)
        self.embedding_norm = norm if config.norm_order == "post" else nn.Identity()
        blocks = (build_block(config, config.memory_width, rotary=rotary) for _ in range(config.layers))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.Identity() if config.norm_order == "post" else norm
        initialise(self.embedding, self.positions, list(self.blocks))  # type: ignore[arg-type]

    def forward(self, tokens: Tensor, mask: Tensor | None = None, memory: Encoded | None = None) -> Encoded:
        """`memory`: features for the cross-attention of the blocks (BLIP's matching and questions)."""
        config = self.config
        if tokens.shape[1] > config.context_length:
            raise ValueError(f"tokens: expected at most {config.context_length} a text, got {tokens.shape[1]}")
        if config.attends_padding and tokens.shape[1] < config.context_length:
            raise ValueError(f"tokens: expected {config.context_length} with padding, got {tokens.shape[1]}")
        if memory is not None and config.memory_width is None:
            raise ValueError("memory: expected none (memory_width None), got one")
        if memory is not None and memory.features is None:
            raise ValueError("memory: expected a sequence of features, got only a pooled vector")
        lengths = lengths_until(tokens, config.eos_id) if mask is None else mask.sum(1)  # [B]
        if self.appended is not None:
            return self.with_appended(tokens, lengths, self.appended)
        longest = int(lengths.max()) if len(lengths) and not config.attends_padding else tokens.shape[1]
        mask = mask_from_lengths(lengths, longest)  # [B, L']
        x = self.embedding(tokens[:, :longest])  # [B, L] -> [B, L', W]
        if self.positions is not None:
            x = x + self.positions[:longest]
        x = self.embedding_norm(x)
        features = self.norm(self.run_blocks(x, self.attention_mask(mask), memory))
        return Encoded(features, self.pool(features, lengths, mask), mask)

    def attention_mask(self, mask: Tensor) -> Tensor | None:
        """What every block adds to causality: the padding mask and the relative bias, [B, 1 or H, 1 or L', L']."""
        config, length = self.config, mask.shape[1]
        keys = None  # a causal text never attends to the padding on its right
        if not config.causal and not config.attends_padding:
            keys = mask[:, None, None]  # [B, 1, 1, L']
        if self.relative is None:
            return keys
        if config.causal:
            keys = causal_mask(length, length, mask.device)
        return self.relative(length, length, keys)  # [1 or B, H, L', L']

    def run_blocks(self, x: Tensor, mask: Tensor | None, memory: Encoded | None) -> Tensor:
        causal = self.config.causal and self.relative is None
        memory_mask = None if memory is None or memory.mask is None else memory.mask[:, None, None]  # [B, 1, 1, M]
        for block in self.blocks:
            projected = None if memory is None else block.project_memory(memory.features)  # type: ignore[operator]
            x = block(x, mask, causal=causal, memory=projected, memory_mask=memory_mask)
        return x

    def pool(self, features: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """[B, L', W] -> [B, W]"""
        if self.config.pooling == "eos":
            return features[torch.arange(len(features), device=features.device), lengths - 1]
        if self.config.pooling == "cls":
            return features[:, 0]
        if self.config.pooling == "last":
            return features[:, -1]
        weights = mask[..., None].to(features.dtype)  # [B, L', 1]
        return (features * weights).sum(1) / weights.sum(1)

    def with_appended(self, tokens: Tensor, lengths: Tensor, appended: Tensor) -> Encoded:
        """CoCa's pooling. Its weights were trained with a mask that is shifted by one place, in open_clip's
        `TextTransformer._build_additive_mask`: key j is attended to if token j - 1 is not padding, so that the
        appended token attends to the first padding and, unless the text is full, not to itself.
        """
        assert self.positions is not None
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
        return Encoded(x[:, :-1], self.norm(x[:, -1]), mask_from_lengths(lengths, kept))


ENCODERS.register("text", TextEncoderConfig, TextEncoder)
