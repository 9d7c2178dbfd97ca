"""Dual encoder: two towers and one space (CLIP, Radford et al. 2021; SigLIP, Zhai et al. 2023).

B = batch, L = tokens, S = image side in pixels, W = width of a tower, D = width of the shared space
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.encoders import ImageConfig, TextConfig, build_encoder
from multimodal.layers.features import Encoded

MAX_LOGIT_SCALE = math.log(100)  # training goes no higher


@dataclass(frozen=True)
class DualEncoderConfig:
    image: ImageConfig
    text: TextConfig
    embed_dim: int = 512
    logit_scale: float = math.log(1 / 0.07)  # the start
    logit_bias: float | None = None  # SigLIP's, None: there is none
    image_projection: str = "linear"  # "affine": with a bias; "none": the tower's width is embed_dim
    text_projection: str = "linear"


class DualEncoding(NamedTuple):
    image_embeddings: Tensor  # [B, D], unit length
    text_embeddings: Tensor  # [B, D], unit length
    scale: Tensor  # scalar, 1 / temperature


class DualEncoder(nn.Module):
    """Two towers, each followed by a linear projection. A tower returns `Encoded`, or its pooled tensor."""

    config: DualEncoderConfig  # set by `build`
    can = frozenset({"classify", "search"})

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        image_width: int,
        text_width: int,
        embed_dim: int,
        logit_scale: float = math.log(1 / 0.07),
        logit_bias: float | None = None,
        image_projection: str = "linear",
        text_projection: str = "linear",
    ) -> None:
        super().__init__()
        self.image_width, self.text_width, self.embed_dim = image_width, text_width, embed_dim
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.image_projection = _projection(image_projection, image_width, embed_dim)
        self.text_projection = _projection(text_projection, text_width, embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))
        self.logit_bias = None if logit_bias is None else nn.Parameter(torch.tensor(float(logit_bias)))
        for projection in (self.image_projection, self.text_projection):
            if isinstance(projection, nn.Linear):
                nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    @classmethod
    def from_config(cls, config: DualEncoderConfig) -> "DualEncoder":
        image, text = build_encoder(config.image), build_encoder(config.text)
        return cls(
            image,
            text,
            image.width,
            text.width,
            config.embed_dim,
            config.logit_scale,
            config.logit_bias,
            config.image_projection,
            config.text_projection,
        )

    @property
    def dual(self) -> "DualEncoder":
        """Itself: every network that embeds has one."""
        return self

    @property
    def scale(self) -> Tensor:
        """1 / temperature."""
        return self.logit_scale.float().exp()

    def project_image(self, pooled: Tensor, normalize: bool = False) -> Tensor:
        embedding = self.image_projection(pooled)  # [B, W] -> [B, D]
        return F.normalize(embedding.float(), dim=-1) if normalize else embedding

    def project_text(self, pooled: Tensor, normalize: bool = False) -> Tensor:
        embedding = self.text_projection(pooled)  # [B, W] -> [B, D]
        return F.normalize(embedding.float(), dim=-1) if normalize else embedding

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """images [B, 3, S, S] -> [B, D]"""
        return self.project_image(_pooled(self.image_encoder(images)), normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """tokens [B, L] -> [B, D]"""
        return self.project_text(_pooled(self.text_encoder(tokens)), normalize)

    def forward(self, images: Tensor, tokens: Tensor) -> DualEncoding:
        return DualEncoding(self.encode_image(images, True), self.encode_text(tokens, True), self.scale)


def _projection(kind: str, width: int, embed_dim: int) -> nn.Module:
    if kind not in ("linear", "affine", "none"):
        raise ValueError(f"projection: expected 'linear', 'affine' or 'none', got {kind!r}")
    if kind == "none":
        if width != embed_dim:
            raise ValueError(
                f"embed_dim: expected {width}, the width of a tower without projection, got {embed_dim}"
            )
        return nn.Identity()
    return nn.Linear(width, embed_dim, bias=kind == "affine")


def _pooled(output: Encoded | Tensor) -> Tensor:
    return output.pooled if isinstance(output, Encoded) else output
