"""Inputs to features: each encoder returns `Encoded(features [B, N, W] | None, pooled [B, W], mask)`."""

from multimodal.encoders.encoder import ENCODERS, Encoder, EncoderConfig
from multimodal.encoders.image import ImageEncoder, ImageEncoderConfig
from multimodal.encoders.open_clip import OpenClipImageConfig, OpenClipTextConfig
from multimodal.encoders.prefixes import pool_by_prefix
from multimodal.encoders.text import TextEncoder, TextEncoderConfig
from multimodal.encoders.timm import TimmConfig, TimmEncoder

__all__ = [
    "ENCODERS", "Encoder", "EncoderConfig", "ImageEncoder", "ImageEncoderConfig", "OpenClipImageConfig",
    "OpenClipTextConfig", "TextEncoder", "TextEncoderConfig", "TimmConfig", "TimmEncoder", "pool_by_prefix",
]  # fmt: skip
