"""From a picture to the tensor that a network reads.

S = image_size
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from multimodal.config import from_dict, to_dict

if TYPE_CHECKING:
    from PIL import Image

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
RESIZES = ("crop", "squash", "pad")
INTERPOLATIONS = ("bicubic", "bilinear")
LARGEST = 2**24  # pixels of the resized picture: beyond, only the part that is kept is made


@dataclass(frozen=True)
class ImageTransform:
    """Resize to S x S and normalise each channel: (x / 255 - mean) / std.

    resize: "crop" resizes the shorter side to S and keeps the centre, "squash" ignores the shape, "pad"
        resizes the longer side to S and puts the picture in the middle of black.

    The values are those of open_clip's `image_transform(S, is_train=False)` with `resize_mode` "shortest",
    "squash", "longest": the same bits, but for strips hundreds of times as long as wide, which are rounded
    in another order. Raises ValueError for settings that make no sense.
    """

    image_size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resize: str = "crop"
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if isinstance(self.image_size, bool) or not isinstance(self.image_size, int) or self.image_size < 1:
            raise ValueError(f"image_size: expected a whole number of at least 1, got {self.image_size!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not _three_numbers(values) or (name == "std" and min(values) <= 0):
                kind = "positive numbers" if name == "std" else "numbers"
                raise ValueError(f"{name}: expected three {kind}, got {values!r}")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        for name, known in (("resize", RESIZES), ("interpolation", INTERPOLATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {known}, got {getattr(self, name)!r}")

    def __call__(self, image: "Image.Image") -> Tensor:
        """An RGB image, as `open_image` gives it, to float32 [3, S, S]. ValueError for other modes."""
        if getattr(image, "mode", None) != "RGB":
            got = getattr(image, "mode", type(image).__name__)
            raise ValueError(f"expected an RGB image, as open_image gives it, got {got}")
        pixels = np.asarray(self.resized(image), dtype=np.float32) / np.float32(255)  # [S, S, 3]
        mean, std = (np.array(values, dtype=np.float32) for values in (self.mean, self.std))
        pixels = np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))
        return torch.from_numpy(pixels)  # [3, S, S]

    def resized(self, image: "Image.Image") -> "Image.Image":
        """The same picture with S x S pixels."""
        from PIL import Image

        side = self.image_size
        width, height = image.size
        resample = Image.Resampling[self.interpolation.upper()]
        if self.resize == "squash":
            return image.resize((side, side), resample)
        if self.resize == "pad":
            ratio = max(width / side, height / side)
            inner = image.resize((max(1, round(width / ratio)), max(1, round(height / ratio))), resample)
            black = Image.new("RGB", (side, side))
            black.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
            return black
        short = min(width, height)
        wide, high = int(side * width / short), int(side * height / short)
        left, top = round((wide - side) / 2), round((high - side) / 2)
        if wide * high > LARGEST:  # a strip: a pixel wide and thousands long
            x, y = width / wide, height / high  # pixels of the source per pixel of the result
            right, bottom = min(width, (left + side) * x), min(height, (top + side) * y)
            return image.resize((side, side), resample, (left * x, top * y, right, bottom))
        return image.resize((wide, high), resample).crop((left, top, left + side, top + side))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and TOML hold them."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ImageTransform":
        """The transform that `to_dict` wrote. ValueError for unknown keys, missing ones and wrong types."""
        return from_dict(cls, values)


def _three_numbers(values: Any) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == 3
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    )
