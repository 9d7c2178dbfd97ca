"""Normalisation layers by name."""

from collections.abc import Callable

from torch import nn

NORMS: dict[str, Callable[[int, float], nn.Module]] = {
    "layer": nn.LayerNorm,
    "rms": nn.RMSNorm,  # Zhang & Sennrich 2019: no mean, no bias
}


def build_norm(name: str, width: int, eps: float) -> nn.Module:
    """The norm called `name`. Raises ValueError listing the known names."""
    if name not in NORMS:
        raise ValueError(f"norm: expected one of {sorted(NORMS)}, got {name!r}")
    return NORMS[name](width, eps)
