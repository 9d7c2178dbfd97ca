import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from multimodal.training.config import OptimizerConfig
from multimodal.training.optimizer import MasterWeights, hidden_matrices, learning_rate, make_optimizer, orthogonalized


def test_the_rate_by_hand():
    config = OptimizerConfig(lr=2.0, warmup=4, final_lr=0.1)
    rates = [learning_rate(step, 12, config) for step in range(13)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[8] == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rates[6] == pytest.approx(2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))))
    assert rates[12] == pytest.approx(0.2)
    assert learning_rate(0, 1, OptimizerConfig(lr=3.0, warmup=0)) == 3.0


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.conv, self.norm = nn.Embedding(7, 4), nn.Conv2d(3, 4, 3), nn.LayerNorm(4)
        self.linear, self.head = nn.Linear(4, 6), nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight


def test_what_is_orthogonalized_and_what_decays():
    layers = Layers()
    assert hidden_matrices(layers) == {"conv.weight", "linear.weight"}
    optimizer = make_optimizer(
        dict(layers.named_parameters()), hidden_matrices(layers), OptimizerConfig(weight_decay=0.3)
    )
    names = {id(p): name for name, p in layers.named_parameters()}
    groups = {
        names[id(p)]: (group["orthogonal"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert groups == {
        "conv.weight": (True, 0.3), "linear.weight": (True, 0.3), "table.weight": (False, 0.3),
        "conv.bias": (False, 0), "linear.bias": (False, 0), "norm.weight": (False, 0), "norm.bias": (False, 0),
    }  # fmt: skip


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31), st.floats(1e-4, 1e4))
def test_singular_vectors_stay_and_singular_values_come_near_one(rows, columns, seed, size):
    rank = min(rows, columns)
    generator = torch.Generator().manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=generator).double(), full_matrices=False)
    values = torch.rand(rank, generator=generator).double() * 0.8 + 0.2
    values[0] = 1
    matrix = size * (u * values) @ v
    found = u.T @ orthogonalized(matrix) @ v.T  # diagonal where the singular vectors are the same
    torch.testing.assert_close(found, found.diagonal().diag(), atol=1e-5, rtol=0)
    assert found.diagonal().min() > 0.6
    assert found.diagonal().max() < 1.3


def test_a_matrix_takes_the_step_of_torch():
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.randn(24, 40)), None
    theirs = nn.Parameter(ours.detach().clone())
    config = OptimizerConfig(lr=0.02, weight_decay=0.1)
    optimizer = make_optimizer({"w": ours}, {"w"}, config)
    reference = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(5):
        gradient = torch.randn(24, 40)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-2)  # torch multiplies in bfloat16


def test_a_convolution_is_one_matrix():
    torch.manual_seed(0)
    conv = nn.Parameter(torch.randn(8, 3, 3, 3))
    flat = nn.Parameter(conv.detach().flatten(1).clone())
    optimizer = make_optimizer({"conv": conv, "flat": flat}, {"conv", "flat"}, OptimizerConfig())
    conv.grad = torch.randn(8, 3, 3, 3)
    flat.grad = conv.grad.flatten(1).clone()
    optimizer.step()
    torch.testing.assert_close(conv.flatten(1), flat)


def test_all_else_takes_the_step_of_adamw_and_without_muon_all_does():
    torch.manual_seed(0)
    ours = {"table": nn.Parameter(torch.randn(5, 3)), "bias": nn.Parameter(torch.randn(4))}
    theirs = {name: nn.Parameter(p.detach().clone()) for name, p in ours.items()}
    config = OptimizerConfig(muon=False, lr=0.01, weight_decay=0.2)
    optimizer = make_optimizer(ours, {"table"}, config)
    groups = [
        {"params": [theirs["table"]], "weight_decay": 0.2}, {"params": [theirs["bias"]], "weight_decay": 0.0}
    ]  # fmt: skip
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(config.beta1, config.beta2), eps=1e-6)
    for _ in range(6):
        for name, p in ours.items():
            p.grad = torch.randn_like(p)
            theirs[name].grad = p.grad.clone()
        optimizer.step()
        reference.step()
    for name, p in ours.items():
        torch.testing.assert_close(p, theirs[name], atol=1e-6, rtol=1e-5)


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
