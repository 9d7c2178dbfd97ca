import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.preprocess.texts.cleaning import CLEANINGS, clean_caption, cleaning

from .peers import sentences


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A dog runs .", "A dog runs."),
        ("a man 's dog does n't run , it sits !", "a man's dog doesn't run, it sits!"),
        ("  two\n\tlines \r\n", "two lines"),
        ("zero\x00byte\x1b[31m", "zero byte [31m"),
        ("\ufeffbom and \u202egnirts", "bom and gnirts"),
        ("3.5 metres, e.g. here", "3.5 metres, e.g. here"),
        ("a .5 inch gap", "a .5 inch gap"),
        ("", ""),
        ("می\u200cخواهم", "می\u200cخواهم"),  # the joiners carry meaning
        ("क्\u200dष", "क्\u200dष"),
        ("ශ්\u200dරී", "ශ්\u200dරී"),
        ("👨\u200d👩\u200d👧 on a beach", "👨\u200d👩\u200d👧 on a beach"),
    ],
)
def test_clean_caption_examples(raw, clean):
    assert clean_caption(raw) == clean


@given(st.text())
def test_clean_caption_is_one_line_and_idempotent(text):
    once = clean_caption(text)
    assert clean_caption(once) == once
    assert once.splitlines() in ([], [once])
    assert once == once.strip()


@pytest.mark.parametrize("name", ["whitespace", "lower", "canonicalize"])
def test_open_clip_cleanings_match_open_clip(name):
    from open_clip.tokenizer import get_clean_fn

    for text in sentences():
        assert cleaning(name)(text) == get_clean_fn(name)(text)


@given(st.text())
def test_siglip_cleaning_matches_transformers(text):
    """The steps of transformers' tokenizer, which cannot be imported without sentencepiece."""
    expected = text.lower()
    for mark in string.punctuation:
        expected = expected.replace(mark, "")
    expected = re.sub(r"\s+", " ", expected).strip()
    assert cleaning("siglip")(text) == expected


def test_cleaning_examples():
    text = " A <b>Dog's</b> &amp; dog_food\n"
    cleaned = {name: cleaning(name)(text) for name in CLEANINGS}
    assert cleaned == {
        "none": text,
        "caption": "A <b>Dog's</b> &amp; dog_food",
        "whitespace": "A <b>Dog's</b> & dog_food",
        "lower": "a <b>dog's</b> & dog_food",
        "canonicalize": "a bdogsb dog food",
        "siglip": "a bdogsb amp dogfood",
    }
    with pytest.raises(ValueError, match=r"clean: expected one of .*, got 'scrub'"):
        cleaning("scrub")
