import math

import pytest
import torch
from torch import nn

from multimodal.training.config import OptimizerConfig
from multimodal.training.optimizer import learning_rate, make_optimizer
from multimodal.training.precision import MasterWeights


def test_the_rate_by_hand():
    config = OptimizerConfig(lr=2.0, warmup=4, final_lr=0.1)
    rates = [learning_rate(step, 12, config) for step in range(13)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[8] == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rates[6] == pytest.approx(2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))))
    assert rates[12] == pytest.approx(0.2)
    assert learning_rate(0, 1, OptimizerConfig(lr=3.0, warmup=0)) == 3.0


def test_only_matrices_decay():
    layer, norm = nn.Linear(3, 2), nn.LayerNorm(2)
    optimizer = make_optimizer([*layer.parameters(), *norm.parameters()], OptimizerConfig(weight_decay=0.3))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(layer.weight)] == 0.3
    assert {decays[id(p)] for p in (layer.bias, norm.weight, norm.bias)} == {0.0}


def test_steps_smaller_than_bfloat16_can_hold_add_up_in_the_copies():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    masters = MasterWeights(layer, torch.bfloat16)
    optimizer = torch.optim.SGD(masters.masters.values(), lr=1.0)
    for _ in range(100):
        layer.weight.grad = torch.full_like(layer.weight, 1e-3)  # bfloat16 below 1 goes in steps of 4e-3
        masters.pull_gradients()
        optimizer.step()
        masters.push_weights()
    assert layer.weight.dtype == torch.bfloat16
    assert masters.masters["weight"].item() == pytest.approx(0.9, abs=1e-3)
    assert layer.weight.item() == pytest.approx(0.9, abs=4e-3)


def test_a_float32_network_is_its_own_copy():
    layer = nn.Linear(2, 2)
    masters = MasterWeights(layer, torch.float32)
    assert masters.masters["weight"] is layer.weight
    assert masters.pairs == []
