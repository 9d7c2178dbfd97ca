"""The transform from an image to the tensor that a network reads.

S = image_size
"""

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from multimodal.config import check_at_least, check_one_of, to_dict
from multimodal.preprocess.images.decode import Box, ImageError, Size, open_reduced
from multimodal.preprocess.images.formats import IMAGE_SUFFIXES, is_image_file
from multimodal.preprocess.preprocessor import PREPROCESSORS, Preprocessor

if TYPE_CHECKING:
    from PIL import Image

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
RESIZES = ("crop", "crop_floor", "squash", "pad")
INTERPOLATIONS = ("bicubic", "bilinear")
MAX_RESIZED_PIXELS = 2**24  # of the whole resized image; above, only the crop is computed
DRAFT_OVERSAMPLING = 4  # draft pixels per output pixel and axis, at least; 2 would double the error


@dataclass(frozen=True)
class ImageTransform(Preprocessor):
    """Resize to S x S and normalize each channel: (x / 255 - mean) / std.

    resize: "crop" resizes the shorter side to S and crops the center, "crop_floor" does the same but rounds
        the offset of the crop down instead of to the nearest integer, "squash" ignores the aspect ratio, "pad"
        resizes the longer side to S and pads with black on both sides.
    draft: let `read` decode JPEG files of at least 8 S pixels on the shorter side at 1/2, 1/4 or 1/8 of their size,
        several times faster and slightly inexact (0.2 gray levels of 255 on average, see tests/benchmarks/draft.py);
        `dataclasses.replace(transform, draft=False)` is exact. Neither `to_dict` nor equality includes this option.

    The output is bit-identical to open_clip's `image_transform(S, is_train=False)` with `resize_mode`
    "shortest" ("crop"), "squash" and "longest" ("pad"), and to transformers' PIL image processors of CLIP
    ("crop_floor"), SigLIP and BLIP ("squash"), except for strips hundreds of times longer than wide, whose
    pixels are rounded in another order. Raises ValueError for invalid settings.
    """

    image_size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resize: str = "crop"
    interpolation: str = "bicubic"
    draft: bool = field(default=True, compare=False)

    # Without annotations, these are class attributes and not fields of the dataclass.
    modality = "image"
    suffixes = IMAGE_SUFFIXES
    item_ndim = 3
    error = ImageError
    accepts = staticmethod(is_image_file)

    def __post_init__(self) -> None:
        check_at_least(1, image_size=self.image_size)
        object.__setattr__(self, "image_size", int(self.image_size))
        for name, low, expected in (("mean", -math.inf, "numbers"), ("std", 0.0, "positive numbers")):
            values = getattr(self, name)
            numbers = isinstance(values, tuple | list | np.ndarray) and all(isinstance(v, Real) for v in values)
            if not numbers or len(values) != 3 or not all(low < value < math.inf for value in values):
                raise ValueError(f"{name}: expected three {expected}, got {values!r}")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        check_one_of(RESIZES, resize=self.resize)
        check_one_of(INTERPOLATIONS, interpolation=self.interpolation)

    def __call__(self, image: "Image.Image") -> Tensor:
        """RGB image, as returned by `open_image` -> float32 [3, S, S]. Raises ValueError for other modes."""
        got = getattr(image, "mode", type(image).__name__)
        if got != "RGB":
            raise ValueError(f"image: expected an RGB image, as returned by open_image, got {got}")
        return self._to_tensor(self.resized(image))

    def read(self, source: Any) -> Tensor:
        """Any source that `open_image` accepts -> float32 [3, S, S]. Raises ImageError."""
        min_side = DRAFT_OVERSAMPLING * self.image_size if self.draft else None
        return self._to_tensor(self.resized(*open_reduced(source, min_side)))

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] -> float32 [B, 3, S, S] on the same device: (x / 255 - mean) / std."""
        mean, std = (torch.tensor(values, device=pixels.device) for values in (self.mean, self.std))
        return (pixels.float() / 255 - mean[:, None, None]) / std[:, None, None]

    def resized(self, image: "Image.Image", size: Size | None = None, box: Box | None = None) -> "Image.Image":
        """The image resized to S x S pixels.

        size, box: of a `Reduced` image. The crop depends on the original size, not on the decoded one.
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
            inner = image.resize((max(1, round(width / ratio)), max(1, round(height / ratio))), resample, box)
            black = Image.new("RGB", (side, side))
            black.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
            return black
        short = min(width, height)
        wide, high = int(side * width / short), int(side * height / short)
        offset = math.floor if self.resize == "crop_floor" else round
        left, top = offset((wide - side) / 2), offset((high - side) / 2)
        if wide * high > MAX_RESIZED_PIXELS:  # a strip, one pixel wide and thousands long
            dx, dy = (right - x) / wide, (bottom - y) / high  # input pixels per output pixel
            right, bottom = min(right, x + (left + side) * dx), min(bottom, y + (top + side) * dy)
            return image.resize((side, side), resample, (x + left * dx, y + top * dy, right, bottom))
        return image.resize((wide, high), resample, box).crop((left, top, left + side, top + side))

    def _to_tensor(self, image: "Image.Image") -> Tensor:
        """S x S pixels -> float32 [3, S, S]. `normalize` in numpy, which starts no threads of its own."""
        pixels = np.asarray(image, dtype=np.float32) / np.float32(255)  # [S, S, 3]
        mean, std = (np.array(values, dtype=np.float32) for values in (self.mean, self.std))
        return torch.from_numpy(np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "image"} | {key: value for key, value in to_dict(self).items() if key != "draft"}


# The transform is its own config.
PREPROCESSORS.register("image", ImageTransform)
