"""Attention masks: boolean, True means attend."""

import torch
from torch import Tensor


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> Tensor:
    """[queries, keys]: each of the last `queries` of `keys` positions attends to itself and what came before."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def lengths_until(tokens: Tensor, eos_id: int) -> Tensor:
    """Length [B] of each row of `tokens` [B, L] up to and including its first `eos_id`; L for a row without one."""
    is_eos = tokens == eos_id
    first = is_eos.int().argmax(1) + 1  # [B]
    return torch.where(is_eos.any(1), first, tokens.shape[1])


def mask_from_lengths(lengths: Tensor, length: int) -> Tensor:
    """[B, length]: True at the first `lengths[b]` positions of row b."""
    return torch.arange(length, device=lengths.device) < lengths[:, None]
