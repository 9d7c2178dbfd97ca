"""One process or several: the process group, the rank of this process, and sums and gathers over all ranks.

R = world size, b = rows of this rank, B = R * b rows of all ranks
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """The rank of this process; before the process group exists, the one set by torchrun."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """The process group of `torchrun` (nccl on CUDA, else gloo); does nothing without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)  # R x [b, ...] -> [B, ...]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()  # [B, ...]
        dist.all_reduce(gradient)  # every rank's loss depends on our rows
        return gradient.chunk(world_size())[rank()]  # [b, ...]


def gather(x: Tensor) -> Tensor:
    """Rows of all ranks in rank order, [b, ...] -> [B, ...]; the gradient flows back to every rank."""
    return x if world_size() == 1 else _Gather.apply(x)


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of `x` over all ranks, without a gradient."""
    x = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of `x` over all ranks, without a gradient."""
    return sum_over_ranks(x) / world_size()
