"""Texts: tokenizers, and the cleaning of captions."""
