"""Dual encoder: one encoder per modality and one shared space (CLIP, Radford et al. 2021; SigLIP, Zhai et al. 2023).

B = batch, W = width of an encoder, D = width of the shared space
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.config import check_one_of
from multimodal.encoders import ENCODERS, Encoder, EncoderConfig
from multimodal.models.network import MODELS

MAX_LOGIT_SCALE = math.log(100)  # training goes no higher
PROJECTIONS = ("linear", "affine", "none")


@dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    encoders: dict[str, EncoderConfig]  # by modality
    embed_dim: int = 512
    # by modality: "linear" (default), "affine", with a bias, or "none" if the encoder's width is embed_dim
    projections: dict[str, str] = field(default_factory=dict)
    logit_scale: float = math.log(1 / 0.07)  # the initial value
    logit_bias: float | None = None  # the initial value for SigLIP's loss; None: no bias


class DualEncoder(nn.Module):
    """Encoders of any modalities, each followed by a projection into the shared space.

    encoders: by modality, each with its `width`. projections, logit_scale, logit_bias: see `DualEncoderConfig`.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        embed_dim: int,
        projections: Mapping[str, str] | None = None,
        logit_scale: float = math.log(1 / 0.07),
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.modalities = tuple(encoders)
        self.encoders = nn.ModuleDict(encoders)
        kinds = dict.fromkeys(encoders, "linear") | dict(projections or {})
        if set(kinds) != set(encoders):
            raise ValueError(f"projections: expected some of {list(encoders)}, got {list(projections or {})}")
        self.projections = nn.ModuleDict(
            {name: build_projection(kind, encoders[name].width, embed_dim) for name, kind in kinds.items()}
        )
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))
        self.logit_bias = None if logit_bias is None else nn.Parameter(torch.tensor(float(logit_bias)))

    def project(self, modality: str, pooled: Tensor, normalize: bool = False) -> Tensor:
        """pooled [B, W] -> [B, D]"""
        embedding = self.projections[modality](pooled)
        return F.normalize(embedding.float(), dim=-1) if normalize else embedding

    def encode(self, modality: str, inputs: Tensor, normalize: bool = False) -> Tensor:
        """A batch of one modality -> [B, D]. Raises ValueError for a modality without an encoder."""
        check_one_of(list(self.modalities), modality=modality)
        return self.project(modality, self.encoders[modality](inputs).pooled, normalize)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Unit-length embeddings [B, D] by modality."""
        return {modality: self.encode(modality, batch, True) for modality, batch in inputs.items()}


def options(config: DualEncoderConfig) -> dict[str, Any]:
    """The arguments of `DualEncoder` that its config gives, all but the encoders."""
    return {key: getattr(config, key) for key in ("embed_dim", "projections", "logit_scale", "logit_bias")}


def build_dual_encoder(config: DualEncoderConfig) -> DualEncoder:
    return DualEncoder(build_encoders(config.encoders), **options(config))


def build_encoders(configs: Mapping[str, Any]) -> dict[str, Encoder]:
    """Encoders by modality. Raises ValueError for an encoder of another modality."""
    encoders = {modality: ENCODERS.build(config) for modality, config in configs.items()}
    for modality, encoder in encoders.items():
        if encoder.modality != modality:
            raise ValueError(f"encoders.{modality}: expected an encoder of {modality}, got one of {encoder.modality}")
    return encoders


def build_projection(kind: str, width: int, embed_dim: int) -> nn.Module:
    """[B, W] -> [B, D]"""
    check_one_of(PROJECTIONS, projection=kind)
    if kind == "none":
        if width != embed_dim:
            raise ValueError(
                f"embed_dim: expected {width}, the width of an encoder without projection, got {embed_dim}"
            )
        return nn.Identity()
    linear = nn.Linear(width, embed_dim, bias=kind == "affine")
    nn.init.normal_(linear.weight, std=width**-0.5)
    return linear


MODELS.register("dual_encoder", DualEncoderConfig, build_dual_encoder)
