"""Image encoder: a ViT (Dosovitskiy et al. 2021), as used by CLIP, SigLIP, CoCa and BLIP.

B = batch, S = image side in pixels, h, w = patches down and across, N = h * w, W = width, Q = queries
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multimodal.config import check_one_of
from multimodal.encoders.encoder import ENCODERS, Encoder
from multimodal.layers.attention import CrossAttention
from multimodal.layers.block import BlockConfig, build_block
from multimodal.layers.features import Encoded
from multimodal.layers.mlp import mlp
from multimodal.layers.norm import build_norm
from multimodal.layers.positions import resize_positions
from multimodal.layers.stem import ConvStem

POOLINGS = ("token", "avg", "map", "queries")


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig(BlockConfig):
    image_size: int = 224
    patch_size: int = 16
    width: int = 192
    heads: int = 3
    # "token", a class token before the patches (CLIP, BLIP); "avg", their mean; "map", one query that attends to
    # the patches (SigLIP); "queries", several, the first for the embedding, the others for the features (CoCa)
    pooling: str = "token"
    eps: float = 1e-6
    norm_input: bool = False  # a norm before the blocks, and patches without a bias (CLIP)
    queries: int = 256
    query_heads: int = 8
    query_width: int = 512
    stem_channels: tuple[int, ...] = ()  # see `layers.ConvStem`; empty: patches by one linear map
    stem_depths: tuple[int, ...] = ()
    crop_to_patches: bool = False  # drop the pixels beyond the last whole patch (SigLIP so400m/14 at 384)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(POOLINGS, pooling=self.pooling)
        for key in ("image_size", "patch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected at least 1, got {getattr(self, key)}")
        if self.image_size % self.patch_size and not self.crop_to_patches:
            raise ValueError(f"image_size: expected a multiple of patch_size {self.patch_size}, got {self.image_size}")

    @property
    def has_class_token(self) -> bool:
        return self.pooling in ("token", "queries")

    @property
    def grid(self) -> int:
        """Patches down, and across."""
        return self.image_size // self.patch_size


class ImageEncoder(Encoder):
    """images [B, 3, S, S] -> Encoded(features [B, N, W], pooled [B, W]); S: any multiple of the patch size.

    With `crop_to_patches`, S is any size of at least one patch.
    """

    modality = "image"

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch_size
        self.width = config.query_width if config.pooling == "queries" else width
        self.patches: nn.Module
        if config.stem_channels:
            self.patches = ConvStem(patch, width, config.stem_channels, config.stem_depths)
        else:
            self.patches = nn.Conv2d(3, width, patch, stride=patch, bias=not config.norm_input)
        self.class_token = nn.Parameter(torch.empty(width)) if config.has_class_token else None
        self.positions = nn.Parameter(torch.empty(config.grid**2 + config.has_class_token, width))
        self.norm_input = build_norm(config.norm, width, config.eps) if config.norm_input else nn.Identity()
        self.blocks = nn.ModuleList(build_block(config) for _ in range(config.layers))
        # The queries have norms of their own.
        self.norm = nn.Identity() if config.pooling == "queries" else build_norm(config.norm, width, config.eps)
        pool = {"map": AttentionPool, "queries": QueryPool}.get(config.pooling)
        self.pool = None if pool is None else pool(config)
        self.initialise()

    def initialise(self) -> None:
        """Initial weights of timm's ViT: linear layers from a normal distribution truncated at two deviations."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.positions, std=0.02)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=1e-6)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Encoded:
        patch = self.config.patch_size
        if not self.config.crop_to_patches and (images.shape[2] % patch or images.shape[3] % patch):
            raise ValueError(f"images: expected sides of multiples of {patch}, got {list(images.shape[2:])}")
        grid = self.patches(images)  # [B, W, h, w]
        positions = resize_positions(self.positions, (grid.shape[2], grid.shape[3]))
        x = grid.flatten(2).transpose(1, 2)  # [B, W, h, w] -> [B, N, W]
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)  # [B, 1 + N, W]
        x = self.norm_input(x + positions)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.config.pooling == "queries":
            assert self.pool is not None
            pooled = self.pool(x)  # [B, Q, W]
            return Encoded(pooled[:, 1:], pooled[:, 0])
        if self.class_token is not None:
            return Encoded(x[:, 1:], x[:, 0])
        return Encoded(x, x.mean(1) if self.pool is None else self.pool(x))


class AttentionPool(nn.Module):
    """One learned query that attends to the patches (Zhai et al. 2022, section 3.2). [B, N, W] -> [B, W]"""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        width = config.width
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.cross = CrossAttention(width, config.heads, width)
        self.norm = nn.LayerNorm(width, config.eps)
        self.mlp = mlp(width, round(width * config.mlp_ratio), config.activation)

    def forward(self, patches: Tensor) -> Tensor:
        query = self.query.expand(len(patches), 1, -1)  # [B, 1, W]
        x = self.cross(query, self.cross.project_memory(patches))[:, 0]  # [B, W]
        return x + self.mlp(self.norm(x))


class QueryPool(nn.Module):
    """Learned queries that attend to the patches: [B, N, W] -> [B, Q, query_width]

    Yu et al. 2022 (CoCa), section 3.2, in open_clip's version: one layer, whose first query is the embedding.
    """

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        width, eps = config.query_width, config.eps
        self.queries = nn.Parameter(torch.randn(config.queries, width))
        self.norm_queries = nn.LayerNorm(width, eps)
        self.cross = CrossAttention(
            width, config.query_heads, config.width, norm_memory=nn.LayerNorm(config.width, eps)
        )
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, patches: Tensor) -> Tensor:
        queries = self.norm_queries(self.queries).expand(len(patches), -1, -1)  # [B, Q, W]
        return self.norm(self.cross(queries, self.cross.project_memory(patches)))


ENCODERS.register("vit", ImageEncoderConfig, ImageEncoder)
