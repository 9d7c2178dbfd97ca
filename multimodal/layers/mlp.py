"""The feed-forward part of a block, and its activations.

W = width, F = hidden width
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from multimodal.config import check_one_of


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the activation of OpenAI's CLIP (its `model.py`)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


def build_activation(name: str) -> nn.Module:
    """The activation called `name`. Raises ValueError listing the known names."""
    check_one_of(sorted(ACTIVATIONS), activation=name)
    return ACTIVATIONS[name]()


def mlp(width: int, hidden: int, activation: str = "gelu", bias: bool = True) -> nn.Sequential:
    """[..., W] -> [..., W] by two linear maps with an activation between them."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=bias), build_activation(activation), nn.Linear(hidden, width, bias=bias)
    )


class GatedMLP(nn.Module):
    """[..., W] -> [..., W]: act(x G) * (x U), then D (Shazeer 2020, "GLU Variants Improve Transformer", equation 6).

    With "silu" this is SwiGLU (LLaMA), with "gelu_tanh" GEGLU (T5 1.1).
    """

    def __init__(self, width: int, hidden: int, activation: str = "silu", bias: bool = False) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.activation = build_activation(activation)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


MLPS: dict[str, Callable[[int, int, str, bool], nn.Module]] = {"plain": mlp, "gated": GatedMLP}
