"""Muon for the weight matrices of the network, AdamW for everything else; warm-up and cosine; float32 master weights.

`torch.optim.Muon` refuses convolutions and always multiplies in bfloat16: on a CPU with AVX2 alone a step over 27
matrices takes 25 times as long as here.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.models import cast
from multimodal.training.config import OptimizerConfig

NEWTON_SCHULZ_STEPS = 5


def hidden_matrices(module: nn.Module) -> set[str]:
    """Names of the weights of linear and convolution layers, which map one activation to the next."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, layers)}
    # A head tied to an embedding is listed under the name of the embedding, which comes first.
    return found & {name for name, _ in module.named_parameters()}


class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are all set to 1 before the step (Jordan et al. 2024, "Muon").

    Groups with `orthogonal` hold matrices (a convolution counts as [out, in * k * k]) and take that step,
    scaled to the size of AdamW's (Liu et al. 2025, "Muon is Scalable", equation 4), so that one learning rate
    serves both. The other groups take the step of AdamW (Loshchilov & Hutter 2019, algorithm 2).
    """

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        super().__init__(groups, {"lr": config.lr, "weight_decay": 0.0, "orthogonal": False})
        self.momentum, self.betas, self.eps = config.momentum, (config.beta1, config.beta2), 1e-6

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step for every parameter with a gradient."""
        for group in self.param_groups:
            for parameter in [p for p in group["params"] if p.grad is not None]:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                rule = self.orthogonal if group["orthogonal"] else self.adam
                parameter.add_(rule(parameter.grad, self.state[parameter]), alpha=-group["lr"])

    def orthogonal(self, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Nesterov momentum with singular values near 1, times 0.2 sqrt(longer side)."""
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - self.momentum)
        update = gradient.lerp(state["momentum"], self.momentum).flatten(1)  # [out, in, ...] -> [out, in ...]
        return orthogonalized(update).view_as(gradient) * (0.2 * math.sqrt(max(update.shape)))

    def adam(self, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        beta1, beta2 = self.betas
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].lerp_(gradient * gradient, 1 - beta2)
        mean = state["mean"] / (1 - beta1 ** state["step"].item())
        square = state["square"] / (1 - beta2 ** state["step"].item())
        return mean / (square.sqrt() + self.eps)


def orthogonalized(matrix: Tensor) -> Tensor:
    """The matrix [M, N] with the same singular vectors and singular values near 1 (5 Newton-Schulz steps)."""
    a, b, c = 3.4445, -4.7750, 2.0315  # Jordan 2024: the quintic maps singular values from 0.05 on to 0.7 to 1.2
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)  # no singular value above 1
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide is matrix else x.T


def make_optimizer(parameters: dict[str, nn.Parameter], matrices: set[str], config: OptimizerConfig) -> Muon:
    """The optimizer of named parameters; `matrices` are orthogonalized. Gains, biases and scalars do not decay."""
    matrices = matrices if config.muon else set()
    hidden = [p for name, p in parameters.items() if name in matrices]
    tables = [p for name, p in parameters.items() if name not in matrices and p.ndim >= 2]
    vectors = [p for name, p in parameters.items() if name not in matrices and p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": config.weight_decay, "orthogonal": True},
        {"params": tables, "weight_decay": config.weight_decay},
        {"params": vectors},
    ]
    return Muon([group for group in groups if group["params"]], config)


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """The rate of `step` (from 0): linear to lr over `warmup` steps, then a cosine to final_lr * lr."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.final_lr + (1 - config.final_lr) * cosine)


class MasterWeights:
    """Float32 copies of the trained parameters, which the optimizer moves (Micikevicius et al. 2018, 3.1).

    The whole network computes in the narrower type, residual stream included: no cast per layer, and half the
    memory traffic of autocast. For a float32 network the copies are the parameters themselves.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Take the float32 `module` over and turn it into `dtype`."""
        self.module = module
        narrow = dtype != torch.float32
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.masters = {name: nn.Parameter(p.detach().clone()) if narrow else p for name, p in trained.items()}
        self.pairs = [(p, self.masters[name]) for name, p in trained.items()] if narrow else []
        cast(module, dtype)

    def pull_gradients(self) -> None:
        """Move the gradients of the parameters to the copies."""
        for parameter, master in self.pairs:
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    @torch.no_grad()
    def push_weights(self) -> None:
        """Write the copies back into the network, rounded."""
        for parameter, master in self.pairs:
            parameter.copy_(master)

    @torch.no_grad()
    def release(self) -> None:
        """Turn the module back to float32, with the values of the copies."""
        self.module.float()
        self.push_weights()

    def state(self) -> dict[str, Tensor]:
        """All parameters: the copies, and the network's own that are not trained."""
        return {name: p.detach() for name, p in (dict(self.module.named_parameters()) | self.masters).items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, parameter in self.state().items():
            parameter.copy_(state[name])
        self.push_weights()
