import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.preprocess import clean_caption


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
    ],
)
def test_examples(raw, clean):
    assert clean_caption(raw) == clean


@given(st.text())
def test_one_line_and_stable(text):
    once = clean_caption(text)
    assert clean_caption(once) == once
    assert once.splitlines() in ([], [once])
    assert once == once.strip()
