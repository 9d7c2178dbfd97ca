"""The contract of an encoder, and the registry of its kinds."""

from typing import Annotated, Any

from torch import nn

from multimodal.config import Registry


class Encoder(nn.Module):
    """forward(inputs, mask=None) -> Encoded(features [B, N, width] | None, pooled [B, width], mask [B, N] | None)

    An encoder is built from a registered config dataclass, which it keeps as `config`:
    `ENCODERS.register("vit", ImageEncoderConfig, ImageEncoder)`.
    """

    modality: str  # "image", "text", "sound", ...: keys the encoders of a network
    width: int
    config: Any
    shares_prefixes: bool = False  # whether `prefixes.pool_by_prefix` gives its pooled output


ENCODERS: Registry[Encoder] = Registry("encoder")
EncoderConfig = Annotated[Any, ENCODERS]  # the type of config fields that hold the table of an encoder
