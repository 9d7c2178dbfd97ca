import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.preprocess.tokenizers.cleaning import CLEANINGS, cleaning

from .peers import sentences


@pytest.mark.parametrize("name", ["whitespace", "lower", "canonicalize"])
def test_those_of_open_clip(name):
    from open_clip.tokenizer import get_clean_fn

    for text in sentences():
        assert cleaning(name)(text) == get_clean_fn(name)(text)


@given(st.text())
def test_that_of_transformers_for_siglip(text):
    """Step by step as its tokenizer has it, which cannot be imported without sentencepiece."""
    expected = text.lower()
    for mark in string.punctuation:
        expected = expected.replace(mark, "")
    expected = re.sub(r"\s+", " ", expected).strip()
    assert cleaning("siglip")(text) == expected


def test_examples():
    text = " A <b>Dog's</b> &amp; dog_food\n"
    cleaned = {name: cleaning(name)(text) for name in CLEANINGS}
    assert cleaned == {
        "none": text,
        "whitespace": "A <b>Dog's</b> & dog_food",
        "lower": "a <b>dog's</b> & dog_food",
        "canonicalize": "a bdogsb dog food",
        "siglip": "a bdogsb amp dogfood",
    }
    with pytest.raises(ValueError, match=r"clean: expected one of .*, got 'scrub'"):
        cleaning("scrub")
