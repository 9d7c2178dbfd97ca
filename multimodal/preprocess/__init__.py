"""From raw input to what a network reads: pictures to tensors, texts to token ids."""

from multimodal.preprocess.augment import Augment
from multimodal.preprocess.images import MAX_BYTES, MAX_PIXELS, ImageError, open_image
from multimodal.preprocess.sources import Sources, decode_all, resolve
from multimodal.preprocess.text import clean_caption, printable
from multimodal.preprocess.tokenizer import (
    BPETokenizer,
    ClipTokenizer,
    Tokenizer,
    load_tokenizer,
    save_tokenizer,
)
from multimodal.preprocess.transform import OPENAI_MEAN, OPENAI_STD, ImageTransform

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "OPENAI_MEAN",
    "OPENAI_STD",
    "Augment",
    "BPETokenizer",
    "ClipTokenizer",
    "ImageError",
    "ImageTransform",
    "Sources",
    "Tokenizer",
    "clean_caption",
    "decode_all",
    "load_tokenizer",
    "open_image",
    "printable",
    "resolve",
    "save_tokenizer",
]
