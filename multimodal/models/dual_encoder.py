"""Dual encoder: two towers and one space (CLIP, Radford et al. 2021; SigLIP, Zhai et al. 2023).

B = batch, L = tokens, S = image side in pixels, W = width of a tower, D = width of the shared space
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.encoders import ImageEncoder, ImageEncoderConfig, TextEncoder, TextEncoderConfig
from multimodal.outputs import Encoded

MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True)
class DualEncoderConfig:
    image: ImageEncoderConfig
    text: TextEncoderConfig
    embed_dim: int = 512
    logit_scale: float = math.log(1 / 0.07)  # the start
    logit_bias: float | None = None  # SigLIP's, None: there is none


class DualEncoding(NamedTuple):
    image_embeddings: Tensor  # [B, D], unit length
    text_embeddings: Tensor  # [B, D], unit length
    scale: Tensor  # scalar, 1 / temperature


class DualEncoder(nn.Module):
    """Two towers, each followed by a linear projection. A tower returns `Encoded`, or its pooled tensor."""

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        image_width: int,
        text_width: int,
        embed_dim: int,
        logit_scale: float = math.log(1 / 0.07),
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.image_projection = nn.Linear(image_width, embed_dim, bias=False)
        self.text_projection = nn.Linear(text_width, embed_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))
        self.logit_bias = None if logit_bias is None else nn.Parameter(torch.tensor(float(logit_bias)))
        nn.init.normal_(self.image_projection.weight, std=image_width**-0.5)
        nn.init.normal_(self.text_projection.weight, std=text_width**-0.5)

    @classmethod
    def from_config(cls, config: DualEncoderConfig) -> "DualEncoder":
        image, text = ImageEncoder(config.image), TextEncoder(config.text)
        return cls(
            image, text, image.width, text.width, config.embed_dim, config.logit_scale, config.logit_bias
        )

    @property
    def scale(self) -> Tensor:
        """1 / temperature, at most 100."""
        return self.logit_scale.float().clamp(max=MAX_LOGIT_SCALE).exp()

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Bring the parameter back to at most ln 100, after a training step."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def project_image(self, pooled: Tensor, normalize: bool = False) -> Tensor:
        embedding = self.image_projection(pooled)  # [B, W] -> [B, D]
        return F.normalize(embedding.float(), dim=-1) if normalize else embedding

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """images [B, 3, S, S] -> [B, D]"""
        return self.project_image(_pooled(self.image_encoder(images)), normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """tokens [B, L] -> [B, D]"""
        embedding = self.text_projection(_pooled(self.text_encoder(tokens)))  # [B, W] -> [B, D]
        return F.normalize(embedding.float(), dim=-1) if normalize else embedding

    def forward(self, images: Tensor, tokens: Tensor) -> DualEncoding:
        return DualEncoding(self.encode_image(images, True), self.encode_text(tokens, True), self.scale)


def _pooled(output: Encoded | Tensor) -> Tensor:
    return output.pooled if isinstance(output, Encoded) else output
