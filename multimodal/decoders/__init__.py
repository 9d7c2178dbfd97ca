"""Tokens, and features to attend to, to the next token."""

from multimodal.decoders.decoder import DECODERS, Decoded, Decoder, DecoderConfig
from multimodal.decoders.text import TextDecoder, TextDecoderConfig

__all__ = ["DECODERS", "Decoded", "Decoder", "DecoderConfig", "TextDecoder", "TextDecoderConfig"]
