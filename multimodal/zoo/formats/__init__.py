"""Checkpoint formats: one file for each, which recognises, reads and converts it."""

import multimodal.zoo.formats.open_clip
import multimodal.zoo.formats.own
import multimodal.zoo.formats.salesforce
import multimodal.zoo.formats.sentence_transformers
import multimodal.zoo.formats.transformers_blip
import multimodal.zoo.formats.transformers_clip  # noqa: F401
from multimodal.zoo.formats.format import FORMATS, Checkpoint, Format, recognise

__all__ = ["FORMATS", "Checkpoint", "Format", "recognise"]
