"""Raw input to tensors: images to pixels, texts to token ids. `PREPROCESSORS` lists the registered kinds."""

from multimodal.preprocess.images.augment import Augment
from multimodal.preprocess.images.decode import ImageError, open_image
from multimodal.preprocess.images.formats import IMAGE_SUFFIXES
from multimodal.preprocess.images.transform import OPENAI_MEAN, OPENAI_STD, ImageTransform
from multimodal.preprocess.preprocessor import (
    MAX_BYTES,
    PREPROCESSORS,
    InputError,
    Preprocessor,
    load_preprocessor,
    save_preprocessor,
)
from multimodal.preprocess.sources import Sources, decode_all, resolve
from multimodal.preprocess.texts.bpe import BPESettings
from multimodal.preprocess.texts.cleaning import clean_caption
from multimodal.preprocess.texts.clip import ClipTokenizer
from multimodal.preprocess.texts.hf import HFSettings, HFTokenizer
from multimodal.preprocess.texts.tokenizer import Tokenizer
from multimodal.preprocess.texts.tokenizer_json import lower_cased, read_tokenizer_json

__all__ = [
    "IMAGE_SUFFIXES", "MAX_BYTES", "OPENAI_MEAN", "OPENAI_STD", "PREPROCESSORS", "Augment", "BPESettings",
    "ClipTokenizer", "HFSettings", "HFTokenizer", "ImageError", "ImageTransform", "InputError", "Preprocessor",
    "Sources", "Tokenizer", "clean_caption", "decode_all", "load_preprocessor", "lower_cased", "open_image",
    "read_tokenizer_json", "resolve", "save_preprocessor",
]  # fmt: skip
