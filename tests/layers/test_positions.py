"""Rotary and relative positions compared with transformers, and the resizing of learned ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.layers import RelativeBias, Rotary, resize_positions

HEADS, D = 2, 8


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("base", [10_000.0, 500.0])
@pytest.mark.parametrize("start", [0, 90])
def test_rotary_equals_llamas(start, base, dtype):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(
        hidden_size=HEADS * D, num_attention_heads=HEADS, rope_parameters={"rope_type": "default", "rope_theta": base}
    )
    q, k = torch.randn(2, 3, HEADS, 7, D).to(dtype)
    cos, sin = LlamaRotaryEmbedding(config)(q, torch.arange(start, start + 7)[None])
    expected = apply_rotary_pos_emb(q, k, cos, sin)
    rotary = Rotary(D, base)
    tolerance = 1e-5 if dtype == torch.float32 else 4e-2
    for got, theirs in zip((rotary(q, start), rotary(k, start)), expected, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got, theirs, atol=tolerance, rtol=tolerance)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_rotary_score_depends_on_the_distance_alone(query, key, shift):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, D, generator=generator, dtype=torch.float64)
    rotary = Rotary(D)
    score = (rotary(q, query) * rotary(k, key)).sum()
    moved = (rotary(q, query + shift) * rotary(k, key + shift)).sum()
    torch.testing.assert_close(moved, score, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rotary(q, query).norm(), q.norm(), atol=1e-5, rtol=1e-5)


def test_rotary_needs_pairs_of_channels():
    with pytest.raises(ValueError, match="rotary: expected an even width of a head, got 5"):
        Rotary(5)


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (10, 33)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_relative_bias_equals_t5s(bidirectional, buckets, distance):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        d_model=16,
        d_kv=D,
        num_heads=HEADS,
        is_decoder=not bidirectional,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=distance,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = RelativeBias(HEADS, bidirectional, buckets, distance)
    torch.nn.init.normal_(theirs.relative_attention_bias.weight)
    ours.bias.load_state_dict(theirs.relative_attention_bias.state_dict())
    expected = theirs.compute_bias(300, 300)
    assert torch.equal(ours(300, 300), expected)
    for queries in (1, 3):  # after 10 tokens in a cache
        theirs_after = theirs.compute_bias(queries, 10 + queries, past_seen_tokens=10)
        assert torch.equal(ours(queries, 10 + queries), theirs_after)


@pytest.mark.parametrize("before", [0, 1])
def test_resized_positions_lie_between_the_learned_ones(before):
    """Positions that form a plane stay on it, and the position of the class token is kept."""
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    positions = torch.cat([torch.full((before, 2), 9.0), torch.stack([y, x], -1).flatten(0, 1)])
    assert resize_positions(positions, (6, 6)) is positions
    found = resize_positions(positions, (3, 12))
    assert found[:before].tolist() == [[9.0, 9.0]] * before
    grid = found[before:].unflatten(0, (3, 12))
    assert (grid[1:, :, 0] > grid[:-1, :, 0]).all()
    assert (grid[:, 1:, 1] > grid[:, :-1, 1]).all()
    torch.testing.assert_close(grid[1, :, 0], torch.full((12,), 2.5))
