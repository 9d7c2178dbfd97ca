"""A module on one rank or on several."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from multimodal.distributed import world_size


def parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """`module` wrapped so that its gradients are averaged over the ranks; on a single rank `module` itself."""
    if world_size() == 1:
        return module
    return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)
