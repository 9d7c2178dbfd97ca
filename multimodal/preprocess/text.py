"""Captions as people would have typed them, and names as people can read them."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060\ufeff]+")
_SPACE = re.compile(r"\s+")
_BEFORE_POINT = re.compile(r" +([.,!?;:])(?= |$)")
_BEFORE_ENDING = re.compile(r" +('(?:s|re|ve|ll|d|m)|n't)\b", re.IGNORECASE)


def clean_caption(text: str) -> str:
    """One line without control characters; the spaces that tokenised corpora put before marks are closed.

    >>> clean_caption("A man 's dog\\n  does n't run .")
    "A man's dog doesn't run."
    """
    text = _SPACE.sub(" ", _CONTROL.sub(" ", text)).strip()
    return _BEFORE_ENDING.sub(r"\1", _BEFORE_POINT.sub(r"\1", text))
