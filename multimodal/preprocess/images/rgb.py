"""Conversion of PIL images of any mode, arrays and tensors to upright RGB images.

H, W = height, width; C = channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha
"""

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from multimodal.preprocess.preprocessor import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**27  # 134 million pixels, 0.5 GB decoded; a 108-megapixel photo passes
ORIENTATION = 0x0112  # EXIF tag
# The `PIL.Image.Transpose` that turns an image of EXIF orientation 2 to 8 upright.
TRANSPOSES = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
TOLERANCE = 1e-3  # floats this far outside [0, 1] count as rounding errors and are clipped


class ImageError(InputError):
    """An image that cannot be used. The message is a short reason."""


def to_rgb(image: "Image.Image") -> "Image.Image":
    """A new image of mode RGB: decoded, transparency over white, upright, without metadata."""
    from PIL import Image

    image.load()
    orientation = orientation_tag(image)  # after decoding: Pillow turns a TIFF itself and drops its tag
    if image.mode.startswith("I;16"):
        image = Image.fromarray(_from_16_bit(image))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_from_32_bit(image))
    if image.has_transparency_data:
        if image.mode == "La":  # premultiplied alpha: Pillow converts it to LA only
            image = image.convert("LA")
        above, image = image.convert("RGBA"), Image.new("RGB", image.size, "white")
        image.paste(above, mask=above)
    image = image.convert("RGB")  # copies if the mode is RGB already
    if orientation is not None and 2 <= orientation <= 8:
        image = image.transpose(Image.Transpose[TRANSPOSES[orientation - 2]])
    image.info.clear()  # otherwise a second call would apply the orientation again
    return image


def check_size(width: int, height: int) -> None:
    """Raise ImageError unless the image has 1 to MAX_PIXELS pixels."""
    if width < 1 or height < 1:
        raise ImageError(f"expected at least 1 x 1 pixels, got {width} x {height}")
    if width * height > MAX_PIXELS:
        raise ImageError(f"expected at most {MAX_PIXELS} pixels, got {width} x {height}")


def orientation_tag(image: "Image.Image") -> int | None:
    """The EXIF orientation, 1 to 8 in valid files; None if it is missing or the metadata is damaged."""
    try:
        tag = image.getexif().get(ORIENTATION)
    except Exception:  # Pillow raises many types; the pixels are intact, so the image is still usable
        return None
    return tag if isinstance(tag, int) else None


def _from_16_bit(image: "Image.Image") -> np.ndarray:
    values = np.asarray(image)
    gray = _scale_16_bit(values)
    if isinstance(transparent := image.info.get("transparency"), int):  # one gray value
        gray = np.where(values == transparent, np.uint8(255), gray)
    return gray


def _from_32_bit(image: "Image.Image") -> np.ndarray:
    """Gray of mode I (int32) or F (float32). Files do not state the range, see `open_image`."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("expected finite gray values, got infinite or undefined ones")
    if image.format == "PPM" and image.mode == "I":
        low, high = 0.0, 65535.0  # Pillow has scaled the values to this range
    elif low >= 0 and high <= 65535:
        limits = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        low, high = 0.0, next(limit for limit in limits if high <= limit)
    scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def from_tensor(tensor: Tensor) -> np.ndarray:
    """[H, W] or [C, H, W] on any device -> uint8 [H, W] or [H, W, C]"""
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 2, 3, 4)):
        raise ImageError(f"expected a tensor [3, H, W], got {list(tensor.shape)}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array = tensor.numpy()
    return from_array(array if array.ndim == 2 else array.transpose(1, 2, 0))  # [C, H, W] -> [H, W, C]


def from_array(array: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] -> uint8 of the same shape, or [H, W] if C is 1"""
    array = np.asarray(array)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(f"expected an array [H, W, 3] or [H, W], got {list(array.shape)}")
    check_size(array.shape[1], array.shape[0])
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = _scale_16_bit(array)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also true for NaN
            raise ImageError(f"expected floats in [0, 1], got {low:.4g} to {high:.4g}")
        array = np.rint(array.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(f"expected uint8, uint16, bool or float, got {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return np.ascontiguousarray(array)


def _scale_16_bit(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, rounded: 65535 = 255 * 257."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
