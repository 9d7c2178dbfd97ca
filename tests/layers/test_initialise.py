"""Initial weights have the standard deviations of CLIP's paper code."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from multimodal.layers import BlockConfig, build_block, initialise

WIDTH, LAYERS = 128, 8
PLAIN = BlockConfig(width=WIDTH, heads=4)
GATED = replace(PLAIN, mlp="gated", norm="rms", bias=False)


@pytest.mark.parametrize("memory_width", [None, 64])
@pytest.mark.parametrize("config", [PLAIN, GATED], ids=["plain", "gated"])
def test_standard_deviation_of_every_weight(config, memory_width):
    torch.manual_seed(0)
    embedding, positions = nn.Embedding(500, WIDTH), nn.Parameter(torch.empty(50, WIDTH))
    blocks = [build_block(config, memory_width) for _ in range(LAYERS)]
    initialise(embedding, positions, blocks)
    attention, residual, hidden = WIDTH**-0.5, (WIDTH * 2 * LAYERS) ** -0.5, (2 * WIDTH) ** -0.5
    expected = [(embedding.weight, 0.02), (positions, 0.01)]
    for block in blocks:
        expected += [(block.attention.qkv.weight, attention), (block.attention.out.weight, residual)]
        if config.mlp == "plain":
            expected += [(block.mlp[0].weight, hidden), (block.mlp[2].weight, residual)]
        else:
            expected += [(block.mlp.gate.weight, hidden), (block.mlp.up.weight, hidden)]
            expected += [(block.mlp.down.weight, residual)]
        if memory_width is not None:
            expected += [(block.cross.q.weight, attention), (block.cross.kv.weight, attention)]
            expected += [(block.cross.out.weight, residual)]
        linears = [module for module in block.modules() if isinstance(module, nn.Linear)]
        assert {id(linear.weight) for linear in linears} <= {id(parameter) for parameter, _ in expected}
        assert not any(linear.bias.any() for linear in linears if linear.bias is not None)
    for parameter, std in expected:
        weight = parameter.detach()
        assert float(weight.std()) == pytest.approx(std, rel=0.05)
        assert abs(float(weight.mean())) < 0.05 * std


def test_positions_may_be_missing():
    embedding = nn.Embedding(500, WIDTH)
    initialise(embedding, None, [])
    assert float(embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
