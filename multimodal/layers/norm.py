"""Normalisation layers by name."""

from collections.abc import Callable

from torch import nn

from multimodal.config import check_one_of

NORMS: dict[str, Callable[[int, float], nn.Module]] = {
    "layer": nn.LayerNorm,
    "rms": nn.RMSNorm,  # Zhang & Sennrich 2019: no mean, no bias
}


def build_norm(name: str, width: int, eps: float) -> nn.Module:
    """The norm called `name`. Raises ValueError listing the known names."""
    check_one_of(sorted(NORMS), norm=name)
    return NORMS[name](width, eps)
