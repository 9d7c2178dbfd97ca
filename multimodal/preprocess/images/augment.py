"""Random augmentation of training images.

H, W = height and width in pixels, S = side of the augmented image
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
NUM_DRAWS = 13  # random numbers per image


@dataclass(frozen=True)
class Augment:
    """uint8 [3, H, W] -> uint8 [3, S, S]. All randomness comes from the generator.

    scale: smallest fraction of the area that a random crop keeps (Szegedy et al. 2015).
    flip: mirror left to right with probability 1/2.
    rotate: rotate by a random multiple of 90 degrees, for aerial images.
    color: multiply brightness, contrast and saturation each by a factor in [1 - color, 1 + color].
    erase: probability of erasing 2 to 25 % of the area with gray (Zhong et al. 2020).
    """

    scale: float = 0.5
    flip: bool = True
    rotate: bool = False
    color: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name, low in (("scale", 1e-3), ("color", 0.0), ("erase", 0.0)):
            if not low <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected {low:g} to 1, got {getattr(self, name)}")

    def __call__(self, image: Tensor, size: int, generator: torch.Generator) -> Tensor:
        draws = torch.rand(NUM_DRAWS, generator=generator).tolist()
        view = self.crop(image, size, draws[0:4])
        if self.rotate:
            view = view.rot90(int(4 * draws[4]), (1, 2))
        if self.flip and draws[5] < 0.5:
            view = view.flip(2)
        if self.color > 0:
            view = self.recolor(view, draws[6:9])
        if draws[9] < self.erase:
            view = self.erased(view, draws[10:13])
        return view

    def crop(self, image: Tensor, size: int, draws: list[float]) -> Tensor:
        """A crop of `scale` to 1 of the area with an aspect ratio of 3/4 to 4/3, resized to `size`."""
        _, height, width = image.shape
        area = height * width * (self.scale + (1 - self.scale) * draws[0])
        ratio = (4 / 3) ** (2 * draws[1] - 1) if self.scale < 1 else 1.0
        w = max(1, min(width, round(math.sqrt(area * ratio))))
        h = max(1, min(height, round(math.sqrt(area / ratio))))
        top, left = int(draws[2] * (height - h + 1)), int(draws[3] * (width - w + 1))
        cropped = image[:, top : top + h, left : left + w]
        if (h, w) == (size, size):
            return cropped
        return F.interpolate(cropped[None], (size, size), mode="bilinear", antialias=True)[0]

    def recolor(self, view: Tensor, draws: list[float]) -> Tensor:
        """Brightness, contrast and saturation in one step: b (c (s x + (1 - s) gray) + (1 - c) mean)."""
        b, c, s = (1 + self.color * (2 * draw - 1) for draw in draws)
        gray = torch.tensor(GRAY_WEIGHTS)
        pixels = view.float().flatten(1)  # [3, H, W] -> [3, H W]
        mean = float(gray @ pixels.mean(1))
        matrix = b * c * (s * torch.eye(3) + (1 - s) * gray.expand(3, 3))
        pixels = torch.addmm(torch.full((3, 1), b * (1 - c) * mean), matrix, pixels)
        return pixels.clamp_(0, 255).to(torch.uint8).view_as(view)

    def erased(self, view: Tensor, draws: list[float]) -> Tensor:
        """A copy with a gray rectangle of the same aspect ratio at a random position, 2 to 25 % of the area."""
        _, height, width = view.shape
        side = math.sqrt(0.02 + 0.23 * draws[2])
        h, w = max(1, round(side * height)), max(1, round(side * width))
        top, left = int(draws[0] * (height - h + 1)), int(draws[1] * (width - w + 1))
        view = view.clone()
        view[:, top : top + h, left : left + w] = 127
        return view
