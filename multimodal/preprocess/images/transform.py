"""From a picture to the tensor that a network reads.

S = image_size
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from multimodal.config import from_dict, to_dict
from multimodal.preprocess.images import open_reduced

if TYPE_CHECKING:
    from PIL import Image

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
RESIZES = ("crop", "crop_floor", "squash", "pad")
INTERPOLATIONS = ("bicubic", "bilinear")
LARGEST = 2**24  # pixels of the resized picture: beyond, only the part that is kept is made
DRAFT = 2  # pixels each way of a reduced JPEG for one of the result: with 1 the drift is four times as large


@dataclass(frozen=True)
class ImageTransform:
    """Resize to S x S and normalise each channel: (x / 255 - mean) / std.

    resize: "crop" resizes the shorter side to S and keeps the centre, "crop_floor" rounds the place of that
        centre down where "crop" rounds it to even, "squash" ignores the shape, "pad" resizes the longer side
        to S and puts the picture in the middle of black.
    draft: whether `read` may have large JPEGs decoded at a fraction of their size, several times as fast and
        a little off. How a model is run and not what it is: no part of `to_dict`, nor of equality.

    The values are those of open_clip's `image_transform(S, is_train=False)` with `resize_mode` "shortest"
    ("crop"), "squash" and "longest" ("pad"), and of transformers' PIL image processors of CLIP ("crop_floor"),
    SigLIP and BLIP ("squash"): the same bits, but for strips hundreds of times as long as wide, which are
    rounded in another order. Raises ValueError for settings that make no sense.
    """

    image_size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resize: str = "crop"
    interpolation: str = "bicubic"
    draft: bool = field(default=False, compare=False)

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
        return self._normalised(self.resized(image))

    def read(self, source: Any) -> Tensor:
        """Whatever `open_image` takes to float32 [3, S, S]; ImageError for what is no picture."""
        at_least = DRAFT * self.image_size if self.draft else None
        return self._normalised(self.resized(*open_reduced(source, at_least)))

    def resized(
        self,
        image: "Image.Image",
        size: tuple[int, int] | None = None,
        box: tuple[float, float, float, float] | None = None,
    ) -> "Image.Image":
        """The same picture with S x S pixels.

        size, box: of a `Reduced` picture: what is kept depends on the sides of the whole, and not on those
            that it was decoded with.
        """
        from PIL import Image

        side = self.image_size
        width, height = image.size if size is None else size
        resample = Image.Resampling[self.interpolation.upper()]
        x, y, right, bottom = box = (0, 0, width, height) if box is None else box
        if self.resize == "squash":
            return image.resize((side, side), resample, box)
        if self.resize == "pad":
            ratio = max(width / side, height / side)
            fitted = (max(1, round(width / ratio)), max(1, round(height / ratio)))
            inner = image.resize(fitted, resample, box)
            black = Image.new("RGB", (side, side))
            black.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
            return black
        short = min(width, height)
        wide, high = int(side * width / short), int(side * height / short)
        centred = math.floor if self.resize == "crop_floor" else round
        left, top = centred((wide - side) / 2), centred((high - side) / 2)
        if wide * high > LARGEST:  # a strip: a pixel wide and thousands long
            dx, dy = (right - x) / wide, (bottom - y) / high  # pixels of the source per pixel of the result
            right, bottom = min(right, x + (left + side) * dx), min(bottom, y + (top + side) * dy)
            return image.resize((side, side), resample, (x + left * dx, y + top * dy, right, bottom))
        return image.resize((wide, high), resample, box).crop((left, top, left + side, top + side))

    def _normalised(self, picture: "Image.Image") -> Tensor:
        """A picture of S x S pixels as float32 [3, S, S]."""
        pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)  # [S, S, 3]
        mean, std = (np.array(values, dtype=np.float32) for values in (self.mean, self.std))
        return torch.from_numpy(np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON and TOML hold them: what the transform is, and so without `draft`."""
        return {key: value for key, value in to_dict(self).items() if key != "draft"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ImageTransform":
        """The transform that `to_dict` wrote. ValueError for unknown keys, missing ones and wrong types."""
        if isinstance(values, dict) and "draft" in values:
            raise ValueError("ImageTransform: expected what it is, got 'draft', which is how it is run")
        return from_dict(cls, values)


def _three_numbers(values: Any) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == 3
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    )
