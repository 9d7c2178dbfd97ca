"""Inputs to features: each encoder returns `Encoded(features [B, N, W], pooled [B, W], padding_mask)`."""

from multimodal.encoders.image import ImageEncoder, ImageEncoderConfig
from multimodal.encoders.text import TextEncoder, TextEncoderConfig

__all__ = ["ImageEncoder", "ImageEncoderConfig", "TextEncoder", "TextEncoderConfig"]
