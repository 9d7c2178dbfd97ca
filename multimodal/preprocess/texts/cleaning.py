"""Cleaning of texts before a tokenizer reads them."""

import re
import string
from collections.abc import Callable

from multimodal.config import check_one_of

# Without the joiners U+200C and U+200D, which carry meaning in Persian, Hindi, Sinhala and emoji.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060\ufeff]+")
_SPACE_BEFORE_MARK = re.compile(r" +([.,!?;:])(?= |$)")
_SPACE_BEFORE_ENDING = re.compile(r" +('(?:s|re|ve|ll|d|m)|n't)\b", re.IGNORECASE)
CLEANINGS = ("none", "caption", "whitespace", "lower", "canonicalize", "siglip")
_REMOVE_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean_caption(text: str) -> str:
    """One line without control characters and without the spaces that tokenized corpora put before punctuation.

    >>> clean_caption("A man 's dog\\n  does n't run .")
    "A man's dog doesn't run."
    """
    text = " ".join(_CONTROL.sub(" ", text).split())
    return _SPACE_BEFORE_ENDING.sub(r"\1", _SPACE_BEFORE_MARK.sub(r"\1", text))


def cleaning(name: str) -> Callable[[str], str]:
    """The cleaning function called `name`, one of CLEANINGS.

    "none" returns the text unchanged and "caption" is `clean_caption`. open_clip's functions repair broken encodings
    (ftfy) and HTML entities; then "whitespace" collapses whitespace, "lower" also lower-cases, and "canonicalize" also
    removes punctuation and replaces "_" with a space. "siglip", from transformers, lower-cases, removes punctuation
    and collapses whitespace.
    """
    check_one_of(CLEANINGS, clean=name)
    if name in ("none", "caption"):
        return str if name == "none" else clean_caption
    if name == "siglip":
        return lambda text: " ".join(text.lower().translate(_REMOVE_PUNCTUATION).split())
    from open_clip.tokenizer import get_clean_fn

    return get_clean_fn(name)
