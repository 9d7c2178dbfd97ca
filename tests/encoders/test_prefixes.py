"""Shared prefixes compared with the encoder itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.encoders import TextEncoder, TextEncoderConfig, pool_by_prefix
from multimodal.encoders.prefixes import find_prefixes
from multimodal.layers import lengths_until

EOS, PAD, LENGTH, VOCAB = 9, 0, 8, 10
# Few words, so that texts often share prefixes; a text that is cut has no end token.
texts = st.lists(st.lists(st.integers(1, 3), max_size=LENGTH), min_size=1, max_size=12)


def padded(rows):
    """Rows of words to tokens [T, LENGTH] with an end token and padding."""
    rows = [[*row, EOS][:LENGTH] for row in rows]
    return torch.tensor([row + [PAD] * (LENGTH - len(row)) for row in rows])


VARIANTS = {
    "plain": {},
    "modern": {"norm": "rms", "mlp": "gated", "activation": "silu", "bias": False},
    "scaled": {"attention_scale": 1.0},
    "one layer": {"layers": 1},
    "with cross-attention": {"memory_width": 6},
}


def make(**fields) -> TextEncoder:
    torch.manual_seed(0)
    given = {"vocab_size": VOCAB, "context_length": LENGTH, "width": 16, "layers": 3, "heads": 2, "eos_id": EOS}
    encoder = TextEncoder(TextEncoderConfig(**(given | fields))).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


@pytest.fixture(scope="module")
def encoders() -> dict[str, TextEncoder]:
    return {name: make(**fields) for name, fields in VARIANTS.items()}


@given(texts)
def test_every_different_prefix_is_found_once(rows):
    tokens = padded(rows)
    lengths = lengths_until(tokens, EOS)
    found = find_prefixes(tokens, lengths, VOCAB)
    expected = {tuple(row[: i + 1]) for row, n in zip(tokens.tolist(), lengths.tolist(), strict=True) for i in range(n)}
    got = [
        tuple(tokens[text, : position + 1].tolist())
        for text, position in zip(found.texts.tolist(), found.positions.tolist(), strict=True)
    ]
    assert len(got) == len(expected)
    assert set(got) == expected
    assert [prefix[-1] for prefix in got] == found.tokens.tolist()
    for row, n, places in zip(tokens.tolist(), lengths.tolist(), found.prefix.tolist(), strict=True):
        assert [got[place] for place in places[:n]] == [tuple(row[: i + 1]) for i in range(n)]


@pytest.mark.parametrize("variant", list(VARIANTS))
@settings(deadline=None, max_examples=25)
@given(texts)
def test_pooled_output_equals_the_encoders(encoders, variant, rows):
    tokens, encoder = padded(rows), encoders[variant]
    assert encoder.shares_prefixes
    with torch.no_grad():
        torch.testing.assert_close(pool_by_prefix(encoder, tokens), encoder(tokens).pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"causal": False}, False),
        ({"pooling": "mean"}, False),
        ({"pooling": "appended"}, False),
        ({"norm_order": "post"}, False),
        ({"positions": "rotary"}, False),
        ({"positions": "relative"}, False),
    ],
)
def test_which_encoders_share_prefixes(changes, expected):
    encoder = make(**changes)
    assert encoder.shares_prefixes is expected
    if not expected:
        with pytest.raises(AssertionError):
            pool_by_prefix(encoder, torch.zeros(1, LENGTH, dtype=torch.long))
