"""Starting weights have the spread that CLIP's paper code gives them."""

import pytest
import torch
from torch import nn

from multimodal.layers import Block, initialise

WIDTH, LAYERS = 128, 8


@pytest.mark.parametrize("memory_width", [None, 64])
def test_spread_of_every_weight(memory_width):
    torch.manual_seed(0)
    embedding, positions = nn.Embedding(500, WIDTH), nn.Parameter(torch.empty(50, WIDTH))
    blocks = nn.ModuleList(Block(WIDTH, 4, memory_width=memory_width) for _ in range(LAYERS))
    initialise(embedding, positions, blocks)
    attention, residual, hidden = WIDTH**-0.5, (WIDTH * 2 * LAYERS) ** -0.5, (2 * WIDTH) ** -0.5
    expected = [(embedding.weight, 0.02), (positions, 0.01)]
    for block in blocks:
        expected += [(block.attention.qkv.weight, attention), (block.attention.out.weight, residual)]
        expected += [(block.mlp[0].weight, hidden), (block.mlp[2].weight, residual)]
        if memory_width is not None:
            expected += [(block.cross.q.weight, attention), (block.cross.kv.weight, attention)]
            expected += [(block.cross.out.weight, residual)]
        assert not any(bool(m.bias.any()) for m in block.modules() if isinstance(m, nn.Linear))
    for parameter, std in expected:
        weight = parameter.detach()
        assert float(weight.std()) == pytest.approx(std, rel=0.05)
        assert abs(float(weight.mean())) < 0.05 * std
