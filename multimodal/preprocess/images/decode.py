"""Decoding of any image source to an upright RGB image, safe for files from untrusted origins.

H, W = height, width; C = channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha
"""

import io
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from multimodal.preprocess.preprocessor import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 2**28  # of a file, 268 MB
MAX_PIXELS = 2**27  # 134 million pixels, 0.5 GB decoded; a 108-megapixel photo passes
TOLERANCE = 1e-3  # floats this far outside [0, 1] count as rounding errors and are clipped
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # Pillow's names; JPEG includes MPO
IMAGE_SUFFIXES: tuple[str, ...] = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
ORIENTATION = 0x0112  # EXIF tag
# The `PIL.Image.Transpose` that turns an image of EXIF orientation 2 to 8 upright.
TRANSPOSES = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
# EXIF orientations that swap width and height, and that store the right or the bottom edge first.
SWAPPED, FROM_RIGHT, FROM_BOTTOM = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
# File types by their first bytes, for the error about a file that Pillow cannot identify.
IMAGE_TYPES = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
OTHER_TYPES = {
    b"pk\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip file", b"%pdf": "a PDF", b"%!ps": "PostScript",
    b"8bps": "a Photoshop file", b"<svg": "SVG", b"<?xml": "XML", b"<!doctype html": "HTML", b"<html": "HTML",
    b"version https://git-lfs": "a Git LFS pointer",
}  # fmt: skip
Size = tuple[int, int]  # width and height
Box = tuple[float, float, float, float]  # left, top, right, bottom
_loading = threading.Lock()  # two threads must not load the same lazy PIL image at once


class ImageError(InputError):
    """An image that cannot be used. The message is a short reason."""


class Reduced(NamedTuple):
    """An image that may have been decoded at a fraction of its size."""

    image: "Image.Image"  # upright RGB
    size: Size  # of the original
    box: Box  # of the original within `image`


def open_image(source: Any) -> "Image.Image":
    """Open `source` as a new PIL image of mode RGB, upright and without metadata.

    source: a path, the bytes of a file, a PIL image, an array [H, W] or [H, W, C] (uint8, uint16, bool, or float from
    0 to 1) or a tensor [H, W] or [C, H, W] (same types), where C is 1 gray, 2 gray + alpha, 3 RGB or 4 RGB + alpha.

    EXIF orientation is applied, transparency is composited over white, 16-bit values are scaled to 8 bits, and
    only the first frame of an animation is read. Color profiles are ignored. 32-bit gray values are scaled
    from [0, 1] (floats only), [0, 255] or [0, 65535], whichever is the smallest range that contains them, or
    else from their minimum and maximum. Pillow's warnings about damaged metadata are passed on.

    Raises ImageError, and no other error, unless `source` is a complete image of at most MAX_PIXELS in a file
    of at most MAX_BYTES in one of FORMATS.
    """
    return open_reduced(source, None).image


def open_reduced(source: Any, min_side: int | None) -> Reduced:
    """Like `open_image`, but may decode a JPEG file at a fraction of its size, with no side below `min_side`.

    JPEG decoders compute 1/2, 1/4 or 1/8 of the pixels of each side in a fraction of the time. If that does
    not divide a side, the last pixels extend beyond the original. None decodes everything at full size.
    """
    from PIL import Image

    try:
        if isinstance(source, str | os.PathLike):
            source = _read_file(source)
        if isinstance(source, bytes | bytearray | memoryview):
            return _decode(bytes(source), min_side)
        if isinstance(source, Image.Image):
            _check_size(*source.size)
            with _loading:
                return _full_size(_to_rgb(source))
        if isinstance(source, Tensor | np.ndarray):
            return _full_size(_to_rgb(Image.fromarray(_to_uint8(source))))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("does not fit into memory") from error
    except Exception as error:  # Pillow raises nearly any type for damaged files
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        if isinstance(error, Image.DecompressionBombError):  # Pillow checks its own limit first
            raise ImageError(f"expected at most {MAX_PIXELS} pixels, got more: {reason}") from error
        raise ImageError(f"damaged or not supported: {reason}") from error
    raise ImageError(f"expected a path, bytes, a PIL image, an array or a tensor, got {type(source).__name__}")


def _read_file(path: "str | os.PathLike[str]") -> bytes:
    """The contents of a regular file; never blocks on a pipe or device."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            unreadable = "" if os.access(path, os.R_OK) else " without read permission"
            raise ImageError(f"expected a file, got a folder{unreadable}")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("expected a regular file, got a device, pipe or socket")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"expected at most {MAX_BYTES} bytes, got {status.st_size}")
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ImageError.not_found("no such file") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _full_size(image: "Image.Image") -> Reduced:
    return Reduced(image, image.size, (0, 0, *image.size))


def _decode(data: bytes, min_side: int | None) -> Reduced:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError("expected an image, got an empty file")
    if len(data) > MAX_BYTES:
        raise ImageError(f"expected at most {MAX_BYTES} bytes, got {len(data)}")
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF needs Pillow 11.3
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:  # reads the header only
            stored = image.size
            _check_size(*stored)
            draft = None if min_side is None else image.draft(None, (min_side, min_side))
            upright = _to_rgb(image)
            orientation = _orientation(image)
    except UnidentifiedImageError as error:
        raise ImageError(f"expected {', '.join(formats)}, got {_file_type(data)}") from error
    if draft is None:
        return _full_size(upright)
    size = stored[::-1] if orientation in SWAPPED else stored
    scale = stored[0] / draft[1][2]
    width, height = size[0] / scale, size[1] / scale
    left = upright.width - width if orientation in FROM_RIGHT else 0
    top = upright.height - height if orientation in FROM_BOTTOM else 0
    return Reduced(upright, size, (left, top, left + width, top + height))


def _file_type(data: bytes) -> str:
    """A short name of the type of a file that Pillow cannot identify, guessed from its first bytes."""
    image = next((name for start, name in IMAGE_TYPES.items() if data.startswith(start)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        image = "WEBP"
    if image is not None:
        return f"a {image} whose header is damaged or of an unknown kind"
    if data[4:8] == b"ftyp":
        return f"a file of type {data[8:12].decode('ascii', 'replace').strip()!r}"  # HEIC, MP4, ...
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    text = "text" if head.isascii() and b"\x00" not in head else "unknown binary data"
    return next((name for start, name in OTHER_TYPES.items() if head.startswith(start)), text)


def _to_rgb(image: "Image.Image") -> "Image.Image":
    """A new image of mode RGB: decoded, transparency over white, upright, without metadata."""
    from PIL import Image

    image.load()
    orientation = _orientation(image)  # after decoding: Pillow turns a TIFF itself and drops its tag
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


def _check_size(width: int, height: int) -> None:
    """Raise ImageError unless the image has 1 to MAX_PIXELS pixels."""
    if width < 1 or height < 1:
        raise ImageError(f"expected at least 1 x 1 pixels, got {width} x {height}")
    if width * height > MAX_PIXELS:
        raise ImageError(f"expected at most {MAX_PIXELS} pixels, got {width} x {height}")


def _orientation(image: "Image.Image") -> int | None:
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


def _to_uint8(array: np.ndarray | Tensor) -> np.ndarray:
    """An array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W] on any device -> uint8 [H, W] or [H, W, C]"""
    expected = "a tensor [3, H, W]" if isinstance(array, Tensor) else "an array [H, W, 3] or [H, W]"
    shape = list(array.shape)
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()  # numpy has no bfloat16
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array  # [C, H, W] -> [H, W, C]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(f"expected {expected}, got {shape}")
    _check_size(array.shape[1], array.shape[0])
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
