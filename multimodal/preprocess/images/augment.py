"""Random views of a training image.

H, W = height and width in pixels, S = side of the view
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601
DRAWS = 13  # random numbers of one view


@dataclass(frozen=True)
class Augment:
    """uint8 [3, H, W] -> uint8 [3, S, S]; all chance comes from the generator.

    scale: the smallest part of the area that a crop keeps (Szegedy et al. 2015); flip: mirrored left to right
    half of the time; rotate: by a random multiple of 90 degrees, for pictures from above; color: brightness,
    contrast and saturation each times 1 - color to 1 + color; erase: how often a part of 2 to 25 % of the
    area turns gray (Zhong et al. 2020).
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
        draws = torch.rand(DRAWS, generator=generator).tolist()
        view = self.crop(image, size, draws[0:4])
        turns = int(4 * draws[4]) if self.rotate else 0
        if turns:
            view = view.rot90(turns, (1, 2))
        if self.flip and draws[5] < 0.5:
            view = view.flip(2)
        if self.color > 0:
            view = self.recolor(view, draws[6:9])
        if draws[9] < self.erase:
            view = self.erased(view, draws[10:13])
        return view

    def crop(self, image: Tensor, size: int, draws: list[float]) -> Tensor:
        """A part of the picture, `scale` to 1 of its area and 3/4 to 4/3 as wide as high, resized."""
        _, height, width = image.shape
        area = height * width * (self.scale + (1 - self.scale) * draws[0])
        ratio = (4 / 3) ** (2 * draws[1] - 1) if self.scale < 1 else 1.0
        w = max(1, min(width, round(math.sqrt(area * ratio))))
        h = max(1, min(height, round(math.sqrt(area / ratio))))
        top, left = int(draws[2] * (height - h + 1)), int(draws[3] * (width - w + 1))
        part = image[:, top : top + h, left : left + w]
        if (h, w) == (size, size):
            return part
        return F.interpolate(part[None], (size, size), mode="bilinear", antialias=True)[0]

    def recolor(self, view: Tensor, draws: list[float]) -> Tensor:
        """Brightness, contrast and saturation in one step: b (c (s x + (1 - s) gray) + (1 - c) mean)."""
        b, c, s = (1 + self.color * (2 * draw - 1) for draw in draws)
        gray = torch.tensor(GRAY)
        pixels = view.float().flatten(1)  # [3, H, W] -> [3, H W]
        mean = float(gray @ pixels.mean(1))
        matrix = b * c * (s * torch.eye(3) + (1 - s) * gray.expand(3, 3))
        pixels = torch.addmm(torch.full((3, 1), b * (1 - c) * mean), matrix, pixels)
        return pixels.clamp_(0, 255).to(torch.uint8).view_as(view)

    def erased(self, view: Tensor, draws: list[float]) -> Tensor:
        """2 to 25 % of the area in gray, anywhere in the picture and of its shape."""
        _, height, width = view.shape
        side = math.sqrt(0.02 + 0.23 * draws[2])
        h, w = max(1, round(side * height)), max(1, round(side * width))
        top, left = int(draws[0] * (height - h + 1)), int(draws[1] * (width - w + 1))
        view = view.clone()
        view[:, top : top + h, left : left + w] = 127
        return view
