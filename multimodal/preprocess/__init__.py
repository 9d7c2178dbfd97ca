"""From raw input to what a network reads: pictures to tensors, texts to token ids."""

from multimodal.files import printable
from multimodal.preprocess.augment import Augment
from multimodal.preprocess.images import MAX_BYTES, MAX_PIXELS, ImageError, open_image
from multimodal.preprocess.sources import Sources, decode_all, resolve
from multimodal.preprocess.text import clean_caption
from multimodal.preprocess.tokenizers import (
    CLEANINGS,
    BPETokenizer,
    ClipTokenizer,
    HFSettings,
    HFTokenizer,
    Tokenizer,
    load_tokenizer,
    lower_cased,
    read_definition,
    save_tokenizer,
)
from multimodal.preprocess.transform import OPENAI_MEAN, OPENAI_STD, ImageTransform

__all__ = [
    "CLEANINGS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "OPENAI_MEAN",
    "OPENAI_STD",
    "Augment",
    "BPETokenizer",
    "ClipTokenizer",
    "HFSettings",
    "HFTokenizer",
    "ImageError",
    "ImageTransform",
    "Sources",
    "Tokenizer",
    "clean_caption",
    "decode_all",
    "load_tokenizer",
    "lower_cased",
    "open_image",
    "printable",
    "read_definition",
    "resolve",
    "save_tokenizer",
]
