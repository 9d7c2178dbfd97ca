"""One process or many: who we are, and sums over all of us.

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
    """Our number; before there is a process group, the one that torchrun gave us."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """The process group that `torchrun` asks for (nccl on CUDA, else gloo); without torchrun, nothing."""
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
        dist.all_reduce(gradient)  # every rank's loss has looked at our rows
        return gradient.chunk(world_size())[rank()]  # [b, ...]


def gather(x: Tensor) -> Tensor:
    """Rows of all ranks in rank order, [b, ...] -> [B, ...]; the gradient flows back to every rank."""
    return x if world_size() == 1 else _Gather.apply(x)


def sum_over_ranks(x: Tensor) -> Tensor:
    """`x` added up over all ranks, without a gradient."""
    x = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of `x` over all ranks, without a gradient."""
    return sum_over_ranks(x) / world_size()
