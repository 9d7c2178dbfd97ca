"""Tokens, and features to look at, to the next token."""

from multimodal.decoders.text import TextDecoder, TextDecoderConfig

__all__ = ["TextDecoder", "TextDecoderConfig"]
