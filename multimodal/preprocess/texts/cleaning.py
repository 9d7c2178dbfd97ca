"""What a peer does to a text before its tokenizer reads it."""

import string
from collections.abc import Callable

OPEN_CLIP = ("whitespace", "lower", "canonicalize")
CLEANINGS = ("none", *OPEN_CLIP, "siglip")
_UNPUNCTUATED = str.maketrans("", "", string.punctuation)


def cleaning(name: str) -> Callable[[str], str]:
    """The cleaning called `name`; ValueError where there is none.

    "none" leaves the text alone. Those of open_clip repair broken encodings (ftfy) and HTML entities:
    "whitespace" then makes any run of white space one blank, "lower" lowers the case too, "canonicalize"
    also drops punctuation, "_" standing for a blank. "siglip" is that of transformers for SigLIP: lower case,
    no punctuation, one blank.
    """
    if name == "none":
        return str
    if name == "siglip":
        return _siglip
    if name in OPEN_CLIP:
        from open_clip.tokenizer import get_clean_fn

        return get_clean_fn(name)
    raise ValueError(f"clean: expected one of {CLEANINGS}, got {name!r}")


def _siglip(text: str) -> str:
    return " ".join(text.lower().translate(_UNPUNCTUATED).split())
