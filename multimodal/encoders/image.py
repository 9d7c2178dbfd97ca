"""Image encoder: a ViT (Dosovitskiy et al. 2021), as CLIP, SigLIP, CoCa and BLIP have it.

B = batch, S = image side in pixels, h, w = patches down and across, N = h * w, W = width, Q = queries
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.encoders.encoder import Encoder
from multimodal.layers import Block, ConvStem, CrossAttention, activation_named
from multimodal.layers.features import Encoded

POOLINGS = ("token", "avg", "map", "queries")


@dataclass(frozen=True)
class ImageEncoderConfig:
    image_size: int = 224
    patch_size: int = 16
    width: int = 192
    layers: int = 12
    heads: int = 3
    # "token", a class token before the patches (CLIP, BLIP); "avg"; "map", a query that looks at the patches
    # (SigLIP); "queries", several, of which the first is the embedding and the others the features (CoCa)
    pooling: str = "token"
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    eps: float = 1e-6  # of the norms
    pre_norm: bool = False  # a norm before the blocks, and patches without a bias (CLIP)
    queries: int = 256
    query_heads: int = 8
    query_width: int = 512
    stem_channels: tuple[int, ...] = ()  # none: patches by one linear map; else see layers.ConvStem
    stem_depths: tuple[int, ...] = ()
    cut: bool = False  # what is left of a side beyond whole patches is cut off (SigLIP so400m/14 at 384)

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: expected one of {POOLINGS}, got {self.pooling!r}")
        for key in ("image_size", "patch_size", "width", "heads"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected at least 1, got {getattr(self, key)}")
        if self.image_size % self.patch_size and not self.cut:
            raise ValueError(
                f"image_size: expected a multiple of patch_size {self.patch_size}, got {self.image_size}"
            )

    @property
    def has_class_token(self) -> bool:
        return self.pooling in ("token", "queries")

    @property
    def patches(self) -> int:
        """Down or across."""
        return self.image_size // self.patch_size


class ImageEncoder(Encoder):
    """images [B, 3, S, S] -> Encoded(features [B, N, W], pooled [B, W]); S: any multiple of the patch size.

    With `cut`, S is any size of at least one patch.
    """

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width, patch, eps = config.width, config.patch_size, config.eps
        self.width = config.query_width if config.pooling == "queries" else width
        self.patches: nn.Module
        if config.stem_channels:
            self.patches = ConvStem(patch, width, tuple(config.stem_channels), tuple(config.stem_depths))
        else:
            self.patches = nn.Conv2d(3, width, patch, stride=patch, bias=not config.pre_norm)
        self.class_token = nn.Parameter(torch.empty(width)) if config.has_class_token else None
        places = config.patches**2 + config.has_class_token
        self.positions = nn.Parameter(torch.empty(places, width))
        self.norm_pre = nn.LayerNorm(width, eps) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_ratio, config.activation, eps=eps)
            for _ in range(config.layers)
        )
        # The queries have norms of their own.
        self.norm = nn.Identity() if config.pooling == "queries" else nn.LayerNorm(width, eps)
        self.pool: nn.Module | None = None
        if config.pooling == "map":
            self.pool = AttentionPool(config)
        elif config.pooling == "queries":
            self.pool = QueryPool(config)
        self.initialise()

    def initialise(self) -> None:
        """As timm has it for ViT: linear layers from a normal distribution cut at two deviations."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.positions, std=0.02)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=1e-6)

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> Encoded:
        patch = self.config.patch_size
        fits = not (images.shape[2] % patch or images.shape[3] % patch)
        if not (fits or self.config.cut):  # or a border would be lost unseen
            raise ValueError(f"images: expected sides of multiples of {patch}, got {list(images.shape[2:])}")
        grid = self.patches(images)  # [B, W, h, w]
        positions = positions_for(self.positions, (grid.shape[2], grid.shape[3]))
        x = grid.flatten(2).transpose(1, 2)  # [B, W, h, w] -> [B, N, W]
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)  # [B, 1 + N, W]
        x = self.norm_pre(x + positions)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.config.pooling == "queries":
            assert self.pool is not None
            found = self.pool(x)  # [B, Q, W]
            return Encoded(found[:, 1:], found[:, 0])
        if self.class_token is not None:
            return Encoded(x[:, 1:], x[:, 0])
        return Encoded(x, x.mean(1) if self.pool is None else self.pool(x))


class AttentionPool(nn.Module):
    """One learned query that looks at the patches (Zhai et al. 2022, section 3.2). [B, N, W] -> [B, W]"""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        width, hidden = config.width, round(config.width * config.mlp_ratio)
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.cross = CrossAttention(width, config.heads, width)
        self.norm = nn.LayerNorm(width, config.eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), activation_named(config.activation), nn.Linear(hidden, width)
        )

    def forward(self, patches: Tensor) -> Tensor:
        query = self.query.expand(len(patches), 1, -1)  # [B, 1, W]
        x = self.cross(query, self.cross.keys_values(patches))[:, 0]  # [B, W]
        return x + self.mlp(self.norm(x))


class QueryPool(nn.Module):
    """Learned queries that look at the patches (Yu et al. 2022, CoCa, section 3.2, as open_clip has it: one
    layer, whose first query is the embedding). [B, N, W] -> [B, Q, query_width]
    """

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        width, eps = config.query_width, config.eps
        self.queries = nn.Parameter(torch.randn(config.queries, width))
        self.norm_queries = nn.LayerNorm(width, eps)
        self.norm_patches = nn.LayerNorm(config.width, eps)
        self.cross = CrossAttention(width, config.query_heads, config.width)
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, patches: Tensor) -> Tensor:
        queries = self.norm_queries(self.queries).expand(len(patches), -1, -1)  # [B, Q, W]
        return self.norm(self.cross(queries, self.cross.keys_values(self.norm_patches(patches))))


def positions_for(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Learned positions [P + n * n, W] for a grid of patches (down, across): those of the P tokens before the
    patches stay, those of the patches are interpolated, bicubic and without aliasing.
    """
    count, (down, across) = len(positions), grid
    side = int(count**0.5)  # n: at most one token stands before a square of patches
    if (down, across) == (side, side):
        return positions
    before, square = positions[: count - side * side], positions[count - side * side :]
    square = square.float().unflatten(0, (1, side, side)).permute(0, 3, 1, 2)  # [n * n, W] -> [1, W, n, n]
    square = F.interpolate(square, grid, mode="bicubic", antialias=True)  # [1, W, down, across]
    return torch.cat([before, square[0].flatten(1).T.to(positions.dtype)])  # [P + down * across, W]
