"""Attention compared with `scaled_dot_product_attention` and PyTorch's `MultiheadAttention`."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multimodal.layers import CrossAttention, Rotary, SelfAttention, attend, mask_from_lengths

from .peers import assert_same, copy_cross_attention, copy_self_attention, randomise

B, H, M, D = 2, 3, 6, 8
WIDTH, HEADS, BATCH, LENGTH, MEMORY = 24, 3, 4, 7, 5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make_mask(kind: str, queries: int) -> torch.Tensor | None:
    if kind == "keys":  # padding, the same for all queries
        return mask_from_lengths(torch.tensor([M, 2]), M)[:, None, None]
    if kind == "pairs":
        return (torch.rand(queries, M) < 0.5).index_fill(1, torch.tensor([1]), True)
    if kind == "bias":
        return torch.randn(1, H, queries, M)
    if kind == "float32 bias":
        return torch.randn(1, H, queries, M)
    if kind == "masked bias":
        hidden = ~mask_from_lengths(torch.tensor([3, M]), M)[:, None, None]
        return torch.randn(1, H, queries, M).masked_fill(hidden, -torch.inf)
    if kind == "nothing to attend to":
        return mask_from_lengths(torch.tensor([3, 0]), M)[:, None, None]
    return None


MASKS = ["none", "keys", "pairs", "bias", "float32 bias", "masked bias", "nothing to attend to", "causal"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("kind", MASKS)
def test_attend_equals_scaled_dot_product_attention(kind, queries, scale, dtype):
    q, k, v = torch.randn(B, H, queries, D), torch.randn(B, H, M, D), torch.randn(B, H, M, D)
    mask, causal = make_mask(kind, queries), kind == "causal"
    q, k, v = (x.to(dtype) for x in (q, k, v))
    if "bias" in kind and kind != "float32 bias":
        mask = mask.to(dtype)
    double = mask.double() if "bias" in kind else mask
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), double, is_causal=causal, scale=scale)
    got = attend(q, k, v, mask, causal, scale)
    assert got.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 4e-2
    torch.testing.assert_close(got.double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", MASKS)
def test_a_single_query_on_a_cpu_does_not_call_the_kernel(kind, monkeypatch):
    q, k, v = torch.randn(B, H, 1, D), torch.randn(B, H, M, D), torch.randn(B, H, M, D)
    expected = F.scaled_dot_product_attention(q, k, v, mask := make_mask(kind, 1), is_causal=kind == "causal")

    def kernel(*arguments, **named):
        raise AssertionError("scaled_dot_product_attention was called")

    monkeypatch.setattr(F, "scaled_dot_product_attention", kernel)
    got = attend(q, k, v, mask, kind == "causal")
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(AssertionError, match="was called"):
        attend(q.expand(-1, -1, 2, -1), k, v)


@pytest.mark.parametrize("kind", ["none", "keys", "masked bias", "causal"])
def test_gradients_of_a_single_query(kind):
    q, k, v = (torch.randn(B, H, n, D, requires_grad=True) for n in (1, M, M))
    mask, causal = make_mask(kind, 1), kind == "causal"
    expected = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    assert_same(attend(q, k, v, mask, causal), expected, q, k, v)


@pytest.mark.parametrize("padded", [False, True])
def test_self_attention_equals_multihead_attention(padded):
    theirs = randomise(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))
    ours = SelfAttention(WIDTH, HEADS)
    copy_self_attention(ours, theirs)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    real = mask_from_lengths(torch.tensor([7, 1, 4, 6]), LENGTH) if padded else None
    expected, _ = theirs(x, x, x, key_padding_mask=~real if padded else None, need_weights=False)
    assert_same(ours(x, real[:, None, None] if padded else None), expected, x)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("memory_width", [WIDTH, 10])
def test_cross_attention_equals_multihead_attention(memory_width, padded):
    theirs = nn.MultiheadAttention(WIDTH, HEADS, kdim=memory_width, vdim=memory_width, batch_first=True)
    randomise(theirs)
    ours = CrossAttention(WIDTH, HEADS, memory_width)
    copy_cross_attention(ours, theirs)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    memory = torch.randn(BATCH, MEMORY, memory_width, requires_grad=True)
    real = mask_from_lengths(torch.tensor([5, 2, 1, 3]), MEMORY)
    got = ours(x, ours.project_memory(memory), real[:, None, None] if padded else None)
    hidden = ~real if padded else None
    expected, _ = theirs(x, memory, memory, key_padding_mask=hidden, need_weights=False)
    assert_same(got, expected, x, memory)


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("times", [1, 3])
def test_rows_that_share_a_memory_equal_copies_of_the_memory(times, rows, padded, length):
    cross = randomise(CrossAttention(WIDTH, HEADS, 10))
    memory = torch.randn(rows, MEMORY, 10)
    mask = mask_from_lengths(torch.tensor([2, 4])[:rows], MEMORY)[:, None, None] if padded else None
    x = torch.randn(rows * times, length, WIDTH)
    copies = cross.project_memory(memory.repeat_interleave(times, 0))
    expected = cross(x, copies, mask.repeat_interleave(times, 0) if padded else None)
    got = cross(x, cross.project_memory(memory), mask)
    assert got.shape == x.shape
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_norm_of_the_memory_comes_before_its_keys_and_values():
    norm = randomise(nn.LayerNorm(10))
    with_norm = CrossAttention(WIDTH, HEADS, 10, norm_memory=norm)
    without = CrossAttention(WIDTH, HEADS, 10)
    without.load_state_dict({k: v for k, v in with_norm.state_dict().items() if "norm" not in k})
    memory = torch.randn(BATCH, MEMORY, 10)
    for got, expected in zip(with_norm.project_memory(memory), without.project_memory(norm(memory)), strict=True):
        torch.testing.assert_close(got, expected)


def test_the_scale_multiplies_the_scores():
    scaled, plain = SelfAttention(WIDTH, HEADS, scale=0.7), SelfAttention(WIDTH, HEADS)
    plain.load_state_dict(scaled.state_dict())
    with torch.no_grad():
        for parameter in plain.qkv.parameters():
            parameter[:WIDTH] *= 0.7 * (WIDTH // HEADS) ** 0.5  # the queries
    x = torch.randn(BATCH, LENGTH, WIDTH)
    torch.testing.assert_close(scaled(x), plain(x))

    cross, unscaled = CrossAttention(WIDTH, HEADS, 10, scale=0.7), CrossAttention(WIDTH, HEADS, 10)
    unscaled.load_state_dict(cross.state_dict())
    with torch.no_grad():
        for parameter in unscaled.q.parameters():
            parameter *= 0.7 * (WIDTH // HEADS) ** 0.5
    memory = cross.project_memory(torch.randn(BATCH, MEMORY, 10))
    torch.testing.assert_close(cross(x, memory), unscaled(x, memory))


def test_rotary_self_attention_depends_on_distances_alone():
    attention = SelfAttention(WIDTH, HEADS, rotary=Rotary(WIDTH // HEADS))
    x = torch.randn(1, LENGTH, WIDTH)
    expected = attention(x, causal=True)
    rotate = attention.rotary.forward
    attention.rotary.forward = lambda x, start: rotate(x, start + 5)  # every token 5 places later
    torch.testing.assert_close(attention(x, causal=True), expected, atol=1e-5, rtol=1e-5)
    attention.rotary = None
    assert (attention(x, causal=True) - expected).abs().max() > 1e-3


def test_without_biases():
    names = {name for name, _ in SelfAttention(WIDTH, HEADS, bias=False).named_parameters()}
    assert names == {"qkv.weight", "out.weight"}
    names = {name for name, _ in CrossAttention(WIDTH, HEADS, 10, bias=False).named_parameters()}
    assert names == {"q.weight", "kv.weight", "out.weight"}
