"""A convolutional stem for small images: patches that have already seen their neighbourhood."""

import math

import torch
from torch import Tensor, nn


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)  # of one image: the same on 1 and on N ranks


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a skip (He et al. 2016, section 3), starting as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)
        self.act = nn.ReLU()
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x))))))


def stage(before: int, after: int, depth: int) -> list[nn.Module]:
    """Half the side, `after` channels, `depth` residual blocks."""
    halving = [nn.Conv2d(before, after, 3, 2, 1, bias=False), norm(after), nn.ReLU()]
    return [*halving, *(Residual(after) for _ in range(depth))]


class ConvStem(nn.Module):
    """Stride-2 convolutions down to one vector per patch: images [B, 3, S, S] -> [B, width, h, w].

    Xiao et al. 2021, "Early Convolutions Help Transformers See Better"; here with residual blocks between.
    `channels[i]` are the channels after the i-th halving and `depths[i]` the residual blocks there; one more
    halving leads to `width`, with `depths[-1]` blocks or, without any, as a bare convolution:
    patch_size = 2 ** len(depths).
    """

    def __init__(self, patch_size: int, width: int, channels: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        if patch_size != 2 ** len(depths) or len(depths) != len(channels) + 1:
            raise ValueError(
                "stem: expected patch_size = 2 ** len(depths) and one more of depths than of channels, got "
                f"patch_size {patch_size}, channels {channels}, depths {depths}"
            )
        layers: list[nn.Module] = []
        before = 3
        for after, depth in zip(channels, depths[:-1], strict=True):
            layers += stage(before, after, depth)
            before = after
        last = stage(before, width, depths[-1]) if depths[-1] else [nn.Conv2d(before, width, 3, 2, 1)]
        self.layers = nn.Sequential(*layers, *last)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.contiguous(memory_format=torch.channels_last))
