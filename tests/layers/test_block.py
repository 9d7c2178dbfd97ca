"""The block against PyTorch's own layers with the same weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multimodal.layers import Block, activation_named, causal_mask, padding_mask_from

WIDTH, HEADS, BATCH, LENGTH, MEMORY = 24, 3, 4, 7, 5


def copy_norms_and_mlp(block: Block, theirs: nn.Module, norms: dict[str, str]) -> None:
    for ours, name in norms.items():
        getattr(block, ours).load_state_dict(getattr(theirs, name).state_dict())
    block.mlp[0].load_state_dict(theirs.linear1.state_dict())
    block.mlp[2].load_state_dict(theirs.linear2.state_dict())


def copy_attention(block: Block, theirs: nn.MultiheadAttention) -> None:
    block.attention.qkv.load_state_dict({"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias})
    block.attention.out.load_state_dict(theirs.out_proj.state_dict())


def spread(module: nn.Module) -> None:
    """Biases and norms away from 0 and 1: a forgotten one would show."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def encoder_pair():
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    spread(theirs)
    block = Block(WIDTH, HEADS)
    copy_norms_and_mlp(block, theirs, {"norm1": "norm1", "norm2": "norm2"})
    copy_attention(block, theirs.self_attn)
    return block, theirs


def assert_same(ours, theirs, x, *more):
    """The same values, and the same gradient at every input."""
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(ours)
    for mine, reference in zip(
        torch.autograd.grad((ours * weights).sum(), (x, *more)),
        torch.autograd.grad((theirs * weights).sum(), (x, *more)),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference, atol=1e-4, rtol=1e-4)


def test_equals_the_encoder_layer(encoder_pair):
    block, theirs = encoder_pair
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    assert_same(block(x), theirs(x), x)


@pytest.mark.parametrize("explicit", [False, True])
def test_equals_the_encoder_layer_when_causal(encoder_pair, explicit):
    block, theirs = encoder_pair
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    ours = block(x, causal_mask(LENGTH, LENGTH)) if explicit else block(x, causal=True)
    hidden = nn.Transformer.generate_square_subsequent_mask(LENGTH)  # -inf where we say False
    assert_same(ours, theirs(x, src_mask=hidden), x)


def test_equals_the_encoder_layer_with_padding(encoder_pair):
    block, theirs = encoder_pair
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    real = padding_mask_from(torch.tensor([7, 1, 4, 6]), LENGTH)  # True = attend; theirs is the opposite
    ours = block(x, real[:, None, None])
    assert_same(ours[real], theirs(x, src_key_padding_mask=~real)[real], x)


@pytest.mark.parametrize("padded", [False, True])
def test_with_a_memory_it_equals_the_decoder_layer(padded):
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    spread(theirs)
    block = Block(WIDTH, HEADS, memory_width=WIDTH)
    copy_norms_and_mlp(block, theirs, {"norm1": "norm1", "norm_cross": "norm2", "norm2": "norm3"})
    copy_attention(block, theirs.self_attn)
    copy_cross(block, theirs.multihead_attn)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    memory = torch.randn(BATCH, MEMORY, WIDTH, requires_grad=True)
    real = padding_mask_from(torch.tensor([5, 2, 1, 3]), MEMORY)
    ours = block(
        x,
        causal=True,
        memory=block.cross.keys_values(memory),
        memory_mask=real[:, None, None] if padded else None,
    )
    reference = theirs(
        x,
        memory,
        tgt_mask=~causal_mask(LENGTH, LENGTH),
        memory_key_padding_mask=~real if padded else None,
    )
    assert_same(ours, reference, x, memory)


def copy_cross(block: Block, theirs: nn.MultiheadAttention) -> None:
    if theirs.in_proj_weight is not None:
        q, k, v = theirs.in_proj_weight.chunk(3)
    else:
        q, k, v = theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight
    q_bias, k_bias, v_bias = theirs.in_proj_bias.chunk(3)
    block.cross.q.load_state_dict({"weight": q, "bias": q_bias})
    block.cross.kv.load_state_dict({"weight": torch.cat([k, v]), "bias": torch.cat([k_bias, v_bias])})
    block.cross.out.load_state_dict(theirs.out_proj.state_dict())


def test_cross_attention_to_a_memory_of_another_width():
    theirs = nn.MultiheadAttention(WIDTH, HEADS, kdim=10, vdim=10, batch_first=True)
    spread(theirs)
    block = Block(WIDTH, HEADS, memory_width=10)
    copy_cross(block, theirs)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    memory = torch.randn(BATCH, MEMORY, 10, requires_grad=True)
    ours = block.cross(x, block.cross.keys_values(memory))
    assert_same(ours, theirs(x, memory, memory, need_weights=False)[0], x, memory)


@pytest.mark.parametrize("padded", [False, True])
def test_with_norms_after_it_equals_the_encoder_layer_of_bert(padded):
    theirs = nn.TransformerEncoderLayer(
        WIDTH,
        HEADS,
        4 * WIDTH,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=False,
        layer_norm_eps=1e-3,
    )
    spread(theirs)
    block = Block(WIDTH, HEADS, norm="post", eps=1e-3)
    copy_norms_and_mlp(block, theirs, {"norm1": "norm1", "norm2": "norm2"})
    copy_attention(block, theirs.self_attn)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    real = padding_mask_from(torch.tensor([7, 1, 4, 6] if padded else [7] * 4), LENGTH)
    ours = block(x, real[:, None, None])
    assert_same(ours[real], theirs(x, src_key_padding_mask=~real)[real], x)


def test_with_norms_after_it_equals_the_decoder_layer_of_bert():
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=False
    )
    spread(theirs)
    block = Block(WIDTH, HEADS, memory_width=WIDTH, norm="post")
    copy_norms_and_mlp(block, theirs, {"norm1": "norm1", "norm_cross": "norm2", "norm2": "norm3"})
    copy_attention(block, theirs.self_attn)
    copy_cross(block, theirs.multihead_attn)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    memory = torch.randn(BATCH, MEMORY, WIDTH, requires_grad=True)
    ours = block(x, causal=True, memory=block.look_at(memory))
    assert_same(ours, theirs(x, memory, tgt_mask=~causal_mask(LENGTH, LENGTH)), x, memory)
    assert Block(WIDTH, HEADS).look_at(memory) is None
    with pytest.raises(ValueError, match="norm: expected 'pre' or 'post', got 'both'"):
        Block(WIDTH, HEADS, norm="both")


def test_with_a_memory_alone_it_equals_the_cross_block_of_open_clip():
    from open_clip.transformer import ResidualAttentionBlock

    theirs = ResidualAttentionBlock(WIDTH, HEADS, is_cross_attention=True)
    spread(theirs)
    block = Block(WIDTH, HEADS, memory_width=WIDTH, memory_only=True)
    for ours, name in {"norm_cross": "ln_1", "norm_memory": "ln_1_kv", "norm2": "ln_2"}.items():
        getattr(block, ours).load_state_dict(getattr(theirs, name).state_dict())
    block.mlp[0].load_state_dict(theirs.mlp.c_fc.state_dict())
    block.mlp[2].load_state_dict(theirs.mlp.c_proj.state_dict())
    copy_cross(block, theirs.attn)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    memory = torch.randn(BATCH, MEMORY, WIDTH, requires_grad=True)
    assert_same(block(x, causal=True, memory=block.look_at(memory)), theirs(x, memory, memory), x, memory)


def test_dropout_only_while_training():
    block = Block(WIDTH, HEADS, dropout=0.5)
    plain = Block(WIDTH, HEADS)
    plain.load_state_dict(block.state_dict())
    x = torch.randn(BATCH, LENGTH, WIDTH)
    assert not torch.allclose(block(x), plain(x))
    torch.testing.assert_close(block.eval()(x), plain(x))


def test_activations():
    x = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(activation_named("gelu")(x), F.gelu(x))
    torch.testing.assert_close(activation_named("quick_gelu")(x), x / (1 + torch.exp(-1.702 * x)))
    with pytest.raises(
        ValueError, match=r"expected one of \['gelu', 'gelu_tanh', 'quick_gelu'\], got 'swish'"
    ):
        activation_named("swish")


def test_width_must_divide_into_heads():
    with pytest.raises(ValueError, match="expected a multiple of 5 heads, got 24"):
        Block(24, 5)
