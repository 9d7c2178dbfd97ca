"""The block compared with PyTorch's own layers with the same weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from multimodal.layers import Block, BlockConfig, build_block, causal_mask, mask_from_lengths

from .peers import assert_same, copy_cross_attention, copy_norms_and_mlp, copy_self_attention, randomise

WIDTH, HEADS, BATCH, LENGTH, MEMORY = 24, 3, 4, 7, 5
CONFIG = BlockConfig(width=WIDTH, heads=HEADS)
POST = replace(CONFIG, norm_order="post")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def encoder_layer(block: Block, norm_first: bool = True, eps: float = 1e-5) -> nn.Module:
    """PyTorch's layer at random weights, which `block` gets too."""
    theirs = nn.TransformerEncoderLayer(
        WIDTH,
        HEADS,
        4 * WIDTH,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
        layer_norm_eps=eps,
    )
    randomise(theirs)
    copy_norms_and_mlp(block, theirs, {"norm1": "norm1", "norm2": "norm2"})
    copy_self_attention(block.attention, theirs.self_attn)
    return theirs


def decoder_layer(block: Block, norm_first: bool = True) -> nn.Module:
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
    )
    randomise(theirs)
    copy_norms_and_mlp(block, theirs, {"norm1": "norm1", "norm_cross": "norm2", "norm2": "norm3"})
    copy_self_attention(block.attention, theirs.self_attn)
    copy_cross_attention(block.cross, theirs.multihead_attn)
    return theirs


def test_equals_the_encoder_layer():
    theirs = encoder_layer(block := build_block(CONFIG))
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    assert_same(block(x), theirs(x), x)


@pytest.mark.parametrize("explicit", [False, True])
def test_equals_the_encoder_layer_when_causal(explicit):
    theirs = encoder_layer(block := build_block(CONFIG))
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    ours = block(x, causal_mask(LENGTH, LENGTH)) if explicit else block(x, causal=True)
    hidden = nn.Transformer.generate_square_subsequent_mask(LENGTH)  # -inf where we say False
    assert_same(ours, theirs(x, src_mask=hidden), x)


@pytest.mark.parametrize("norm_order", ["pre", "post"])
@pytest.mark.parametrize("padded", [False, True])
def test_equals_the_encoder_layer_with_padding(padded, norm_order):
    block = build_block(replace(CONFIG, norm_order=norm_order, eps=1e-3))
    theirs = encoder_layer(block, norm_order == "pre", eps=1e-3)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    # True = attend; theirs is the opposite
    real = mask_from_lengths(torch.tensor([7, 1, 4, 6] if padded else [7] * 4), LENGTH)
    ours = block(x, real[:, None, None])
    assert_same(ours[real], theirs(x, src_key_padding_mask=~real)[real], x)


@pytest.mark.parametrize("norm_order", ["pre", "post"])
@pytest.mark.parametrize("padded", [False, True])
def test_with_a_memory_it_equals_the_decoder_layer(padded, norm_order):
    block = build_block(replace(CONFIG, norm_order=norm_order), WIDTH)
    theirs = decoder_layer(block, norm_order == "pre")
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    memory = torch.randn(BATCH, MEMORY, WIDTH, requires_grad=True)
    real = mask_from_lengths(torch.tensor([5, 2, 1, 3]), MEMORY)
    ours = block(
        x, causal=True, memory=block.project_memory(memory), memory_mask=real[:, None, None] if padded else None
    )
    reference = theirs(
        x, memory, tgt_mask=~causal_mask(LENGTH, LENGTH), memory_key_padding_mask=~real if padded else None
    )
    assert_same(ours, reference, x, memory)


def test_with_a_memory_alone_it_equals_the_cross_block_of_open_clip():
    from open_clip.transformer import ResidualAttentionBlock

    theirs = randomise(ResidualAttentionBlock(WIDTH, HEADS, is_cross_attention=True))
    block = build_block(CONFIG, WIDTH, self_attention=False)
    for ours, name in ((block.norm_cross, "ln_1"), (block.cross.norm_memory, "ln_1_kv"), (block.norm2, "ln_2")):
        ours.load_state_dict(getattr(theirs, name).state_dict())
    block.mlp[0].load_state_dict(theirs.mlp.c_fc.state_dict())
    block.mlp[2].load_state_dict(theirs.mlp.c_proj.state_dict())
    copy_cross_attention(block.cross, theirs.attn)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    memory = torch.randn(BATCH, MEMORY, WIDTH, requires_grad=True)
    ours = block(x, causal=True, memory=block.project_memory(memory))
    assert_same(ours, theirs(x, memory, memory), x, memory)


def test_a_block_has_the_parts_of_its_config():
    plain = build_block(CONFIG)
    assert plain.cross is None
    assert plain.project_memory(torch.randn(BATCH, MEMORY, WIDTH)) is None
    assert {name.split(".")[0] for name, _ in plain.named_parameters()} == {"attention", "mlp", "norm1", "norm2"}
    both = build_block(CONFIG, 10)
    assert isinstance(both.cross.norm_memory, nn.Identity)
    cross = build_block(CONFIG, 10, self_attention=False)
    assert cross.attention is None
    assert cross.cross.norm_memory.weight.shape == (10,)
    modern = build_block(replace(CONFIG, norm="rms", mlp="gated", bias=False), 10)
    assert not [name for name, _ in modern.named_parameters() if "bias" in name]
    unbiased = build_block(replace(CONFIG, bias=False), 10)
    biases = {name for name, _ in unbiased.named_parameters() if "bias" in name}
    assert biases == {"norm1.bias", "norm_cross.bias", "norm2.bias"}
    biased = build_block(replace(CONFIG, mlp="gated"), 10)
    assert biased.mlp.gate.bias is not None


@torch.no_grad()
def test_parts_are_plain_modules():
    mlp, norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    before = Block(lambda: norm, None, None, mlp)
    torch.testing.assert_close(before(x), x + mlp(norm(x)))
    after = Block(lambda: norm, None, None, mlp, post_norm=True)
    torch.testing.assert_close(after(x), norm(x + mlp(x)))


def test_a_block_without_its_memory_leaves_out_cross_attention():
    block = build_block(CONFIG, 10)
    plain = build_block(CONFIG)
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if "cross" not in k})
    x = torch.randn(BATCH, LENGTH, WIDTH)
    torch.testing.assert_close(block(x), plain(x))


def test_dropout_only_while_training():
    block = build_block(replace(CONFIG, dropout=0.5))
    plain = build_block(CONFIG)
    plain.load_state_dict(block.state_dict())
    x = torch.randn(BATCH, LENGTH, WIDTH)
    assert not torch.allclose(block(x), plain(x))
    torch.testing.assert_close(block.eval()(x), plain(x))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 24, "heads": 5}, "width: expected a multiple of 5 heads, got 24"),
        ({"width": 0}, "width: expected at least 1, got 0"),
        ({"heads": 0}, "heads: expected at least 1, got 0"),
        ({"norm_order": "both"}, r"norm_order: expected one of \('pre', 'post'\), got 'both'"),
        ({"mlp": "wide"}, r"mlp: expected one of \('plain', 'gated'\), got 'wide'"),
    ],
)
def test_mistakes(fields, message):
    with pytest.raises(ValueError, match=message):
        BlockConfig(**fields)
