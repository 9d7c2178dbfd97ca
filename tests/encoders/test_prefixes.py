"""Shared beginnings against the encoder itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.encoders import TextEncoder, TextEncoderConfig
from multimodal.encoders.prefixes import find_beginnings, pool_by_prefix, shareable
from multimodal.layers import lengths_until

EOS, PAD, LENGTH, VOCAB = 9, 0, 8, 10
# Few words, so that beginnings are often alike; ends of their own, or none where a text is cut.
texts = st.lists(st.lists(st.integers(1, 3), max_size=LENGTH), min_size=1, max_size=12)


def padded(rows):
    """Rows of words to tokens [T, LENGTH], ended and padded."""
    rows = [[*row, EOS][:LENGTH] for row in rows]
    return torch.tensor([row + [PAD] * (LENGTH - len(row)) for row in rows])


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    config = TextEncoderConfig(VOCAB, LENGTH, width=16, layers=3, heads=2, eos_id=EOS)
    encoder = TextEncoder(config).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


@given(texts)
def test_every_different_beginning_is_there_once(rows):
    tokens = padded(rows)
    lengths = lengths_until(tokens, EOS)
    found = find_beginnings(tokens, lengths, VOCAB)
    expected = {
        tuple(row[: i + 1])
        for row, n in zip(tokens.tolist(), lengths.tolist(), strict=True)
        for i in range(n)
    }
    got = [
        tuple(tokens[text, : position + 1].tolist())
        for text, position in zip(found.texts.tolist(), found.positions.tolist(), strict=True)
    ]
    assert len(got) == len(expected)
    assert set(got) == expected
    assert [beginning[-1] for beginning in got] == found.tokens.tolist()
    for row, n, places in zip(tokens.tolist(), lengths.tolist(), found.of_texts.tolist(), strict=True):
        assert [got[place] for place in places[:n]] == [tuple(row[: i + 1]) for i in range(n)]


@settings(deadline=None)
@given(texts)
def test_pooled_as_the_encoder_does(encoder, rows):
    tokens = padded(rows)
    with torch.no_grad():
        torch.testing.assert_close(
            pool_by_prefix(encoder, tokens), encoder(tokens).pooled, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"causal": False}, False),
        ({"pooling": "mean"}, False),
        ({"pooling": "appended"}, False),
        ({"norm": "post"}, False),
    ],
)
def test_what_can_share(changes, expected):
    values = {"vocab_size": VOCAB, "context_length": LENGTH, "width": 16, "layers": 1, "heads": 2} | changes
    assert shareable(TextEncoder(TextEncoderConfig(**values))) is expected
    assert not shareable(torch.nn.Identity())
