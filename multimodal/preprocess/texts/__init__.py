"""Texts to token ids and back: CLIP's byte-pair encoding, one trained on the captions at hand, and those of
the `tokenizers` library."""

from multimodal.preprocess.tokenizers.bpe import BPETokenizer
from multimodal.preprocess.tokenizers.cleaning import CLEANINGS
from multimodal.preprocess.tokenizers.clip import ClipTokenizer
from multimodal.preprocess.tokenizers.definition import lower_cased, read_definition
from multimodal.preprocess.tokenizers.folder import load_tokenizer, save_tokenizer
from multimodal.preprocess.tokenizers.hf import HFSettings, HFTokenizer
from multimodal.preprocess.tokenizers.tokenizer import Tokenizer

__all__ = [
    "CLEANINGS",
    "BPETokenizer",
    "ClipTokenizer",
    "HFSettings",
    "HFTokenizer",
    "Tokenizer",
    "load_tokenizer",
    "lower_cased",
    "read_definition",
    "save_tokenizer",
]
