"""The weights of our layers, copied to and from layers of PyTorch and transformers."""

from collections.abc import Iterable

import torch
from torch import nn

from multimodal.layers import Block, CrossAttention, SelfAttention


@torch.no_grad()
def randomise(module: nn.Module, std: float = 0.3) -> nn.Module:
    """Noise on all parameters: biases leave 0 and norms leave 1, so that a missing one shows."""
    for parameter in module.parameters():
        parameter.add_(std * torch.randn_like(parameter))
    return module


def copy_self_attention(ours: SelfAttention, theirs: nn.MultiheadAttention) -> None:
    """Their weights to ours."""
    ours.qkv.load_state_dict({"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias})
    ours.out.load_state_dict(theirs.out_proj.state_dict())


def copy_cross_attention(ours: CrossAttention, theirs: nn.MultiheadAttention) -> None:
    """Their weights to ours."""
    if theirs.in_proj_weight is not None:
        q, k, v = theirs.in_proj_weight.chunk(3)
    else:  # the memory has another width
        q, k, v = theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight
    q_bias, k_bias, v_bias = theirs.in_proj_bias.chunk(3)
    ours.q.load_state_dict({"weight": q, "bias": q_bias})
    ours.kv.load_state_dict({"weight": torch.cat([k, v]), "bias": torch.cat([k_bias, v_bias])})
    ours.out.load_state_dict(theirs.out_proj.state_dict())


def copy_norms_and_mlp(block: Block, theirs: nn.Module, norms: dict[str, str]) -> None:
    """The weights of a layer of PyTorch to ours; `norms`: our names to theirs."""
    for ours, name in norms.items():
        getattr(block, ours).load_state_dict(getattr(theirs, name).state_dict())
    block.mlp[0].load_state_dict(theirs.linear1.state_dict())
    block.mlp[2].load_state_dict(theirs.linear2.state_dict())


def torch_encoder_layer(block: Block, norm_first: bool) -> nn.TransformerEncoderLayer:
    """PyTorch's layer with the weights of `block`."""
    width = block.norm2.weight.shape[0]
    layer = nn.TransformerEncoderLayer(
        width,
        block.attention.heads,
        block.mlp[0].out_features,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
    )
    _load(layer, block, {"norm1": block.norm1, "norm2": block.norm2})
    return layer


def torch_decoder_layer(block: Block, norm_first: bool) -> nn.TransformerDecoderLayer:
    """PyTorch's layer with the weights of `block`, whose memory has the width of the block."""
    width = block.norm2.weight.shape[0]
    layer = nn.TransformerDecoderLayer(
        width,
        block.attention.heads,
        block.mlp[0].out_features,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm_first,
    )
    _load(layer, block, {"norm1": block.norm1, "norm2": block.norm_cross, "norm3": block.norm2})
    cross = layer.multihead_attn
    cross.in_proj_weight.data = torch.cat([block.cross.q.weight, block.cross.kv.weight]).detach()
    cross.in_proj_bias.data = torch.cat([block.cross.q.bias, block.cross.kv.bias]).detach()
    cross.out_proj.load_state_dict(block.cross.out.state_dict())
    return layer


def _load(layer: nn.Module, block: Block, norms: dict[str, nn.Module]) -> None:
    layer.self_attn.in_proj_weight.data = block.attention.qkv.weight.data
    layer.self_attn.in_proj_bias.data = block.attention.qkv.bias.data
    layer.self_attn.out_proj.load_state_dict(block.attention.out.state_dict())
    layer.linear1.load_state_dict(block.mlp[0].state_dict())
    layer.linear2.load_state_dict(block.mlp[2].state_dict())
    for name, norm in norms.items():
        getattr(layer, name).load_state_dict(norm.state_dict())


@torch.no_grad()
def copy_to_llama(blocks: Iterable[Block], layers: Iterable[nn.Module]) -> None:
    """Our weights to decoder layers of transformers' LLaMA."""
    for mine, layer in zip(blocks, layers, strict=True):
        for name, weight in zip("qkv", mine.attention.qkv.weight.chunk(3), strict=True):
            getattr(layer.self_attn, f"{name}_proj").weight.copy_(weight)
        for ours, theirs in (
            (mine.attention.out, layer.self_attn.o_proj),
            (mine.norm1, layer.input_layernorm),
            (mine.norm2, layer.post_attention_layernorm),
            (mine.mlp.gate, layer.mlp.gate_proj),
            (mine.mlp.up, layer.mlp.up_proj),
            (mine.mlp.down, layer.mlp.down_proj),
        ):
            theirs.load_state_dict(ours.state_dict())


@torch.no_grad()
def copy_to_t5(ours: nn.Module, stack: nn.Module) -> None:
    """The weights of our encoder or decoder to a stack of transformers' T5 1.1."""
    pairs = [(ours.norm, stack.final_layer_norm), (ours.embedding, stack.embed_tokens)]
    pairs += [(ours.relative.bias, stack.block[0].layer[0].SelfAttention.relative_attention_bias)]
    for mine, block in zip(ours.blocks, stack.block, strict=True):
        attention, mlp = block.layer[0].SelfAttention, block.layer[-1].DenseReluDense
        for name, weight in zip("qkv", mine.attention.qkv.weight.chunk(3), strict=True):
            getattr(attention, name).weight.copy_(weight)
        if mine.cross is not None:
            cross = block.layer[1].EncDecAttention
            for name, weight in zip("kv", mine.cross.kv.weight.chunk(2), strict=True):
                getattr(cross, name).weight.copy_(weight)
            pairs += [(mine.cross.q, cross.q), (mine.cross.out, cross.o)]
            pairs += [(mine.norm_cross, block.layer[1].layer_norm)]
        pairs += [
            (mine.attention.out, attention.o),
            (mine.norm1, block.layer[0].layer_norm),
            (mine.norm2, block.layer[-1].layer_norm),
            (mine.mlp.gate, mlp.wi_0),
            (mine.mlp.up, mlp.wi_1),
            (mine.mlp.down, mlp.wo),
        ]
    for mine, theirs in pairs:
        theirs.load_state_dict(mine.state_dict())


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, *inputs: torch.Tensor) -> None:
    """The same values, and the same gradient with respect to every input."""
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(ours)
    for mine, reference in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference, atol=1e-4, rtol=1e-4)
