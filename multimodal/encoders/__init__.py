"""Inputs to features: each encoder returns `Encoded(features [B, N, W], pooled [B, W], padding_mask)`."""

from multimodal.encoders.build import ImageConfig, TextConfig, build_encoder
from multimodal.encoders.encoder import Encoder
from multimodal.encoders.foreign import (
    OpenClipImageConfig,
    OpenClipImageEncoder,
    OpenClipTextConfig,
    OpenClipTextEncoder,
)
from multimodal.encoders.image import ImageEncoder, ImageEncoderConfig
from multimodal.encoders.text import TextEncoder, TextEncoderConfig

__all__ = [
    "Encoder",
    "ImageConfig",
    "ImageEncoder",
    "ImageEncoderConfig",
    "OpenClipImageConfig",
    "OpenClipImageEncoder",
    "OpenClipTextConfig",
    "OpenClipTextEncoder",
    "TextConfig",
    "TextEncoder",
    "TextEncoderConfig",
    "build_encoder",
]
