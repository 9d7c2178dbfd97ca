"""Decoding of any image source to an upright RGB image, safe for files from untrusted origins.

H, W = height, width; C = channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha
"""

import io
import os
import stat
import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from multimodal.preprocess.images.formats import FORMATS, file_format, without_metadata
from multimodal.preprocess.preprocessor import MAX_BYTES, InputError, plain_source

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**27  # 134 million pixels, 0.5 GB decoded; a 108-megapixel photo passes
MAX_JPEG_PIXELS = 2**29  # of a JPEG decoded at a fraction of its size; half if progressive: it takes 6 bytes per pixel
TOLERANCE = 1e-3  # floats this far outside [0, 1] count as rounding errors and are clipped
ORIENTATION, SUBFILE_TYPE = 0x0112, 0x00FE  # EXIF and TIFF tags
# The `PIL.Image.Transpose` that turns an image of EXIF orientation 2 to 8 upright.
TRANSPOSES = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
# EXIF orientations that swap width and height, and that store the right or the bottom edge first.
SWAPPED, FROM_RIGHT, FROM_BOTTOM = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
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

    source: a path, the bytes of a file, anything that `plain_source` reads, a PIL image, an array [H, W] or [H, W, C]
    (uint16, bool, floats from 0 to 1 or other integers from 0 to 255) or a tensor [H, W] or [C, H, W] (same types),
    where C is 1 gray, 2 gray + alpha, 3 RGB or 4 RGB + alpha. Arrays [C, H, W] and tensors [H, W, C] are read as well
    if the channels can only be there; [3, N, 3] and [4, N, 4] are refused.

    EXIF orientation is applied, transparency is composited over white, 16-bit values are scaled to 8 bits, and
    only the first frame of an animation is read. Color profiles are ignored. 32-bit gray values are scaled
    from [0, 1] (floats only), [0, 255] or [0, 65535], whichever is the smallest range that contains them, or
    else from their minimum and maximum. Pillow's warnings about damaged metadata are passed on; metadata that it
    refuses is skipped. A JPEG of more than MAX_PIXELS is decoded at 1/2, 1/4 or 1/8 of its size.

    Raises ImageError, and no other error, unless `source` is a complete image of at most MAX_PIXELS (a JPEG:
    MAX_JPEG_PIXELS) in a file of at most MAX_BYTES in one of FORMATS. HEIF (HEIC) needs the package pillow-heif.
    """
    return open_reduced(source, None).image


def open_reduced(source: Any, min_side: int | None) -> Reduced:
    """Like `open_image`, but may decode a JPEG file at a fraction of its size, with no side below `min_side`.

    JPEG decoders compute 1/2, 1/4 or 1/8 of each side in a fraction of the time. If that does not divide a side, the
    last pixels extend beyond the original. None decodes at full size up to MAX_PIXELS.
    """
    from PIL import Image

    try:
        source = plain_source(source)
    except (OSError, ValueError) as error:
        raise ImageError(str(error)) from error
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
        large = isinstance(error, Image.DecompressionBombError)  # Pillow checks its own limit first
        prefix = f"expected at most {MAX_PIXELS} pixels, got more" if large else "damaged or not supported"
        raise ImageError(f"{prefix}: {reason}") from error
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
        with open(path, "rb") as file:
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
    section, name = file_format(data)
    with suppress(ImportError):
        if name == "HEIF" and name not in Image.OPEN:
            import_module("pillow_heif").register_heif_opener()
    formats = [each for each in FORMATS if each in Image.OPEN]  # AVIF needs Pillow 11.3
    expected = f"expected {', '.join(formats)}"
    if name == "HEIF" and name not in formats:
        raise ImageError(f"{expected}, got HEIC, which needs pillow-heif: pip install 'multimodal-models[heic]'")
    if section == "unreadable":
        raise ImageError(f"{expected}, got {name}")
    try:
        return _decode_file(data, formats, min_side)
    except ImageError:
        raise
    except Exception as error:
        with suppress(Exception):  # the first error is the one to report
            return _decode_file(without_metadata(data), formats, min_side)
        if not isinstance(error, UnidentifiedImageError):
            raise
        if section == "readable":
            name = f"a {name} whose header is damaged or of an unknown kind"
        raise ImageError(f"{expected}, got {name}") from error


def _decode_file(data: bytes, formats: list[str], min_side: int | None) -> Reduced:
    from PIL import Image, UnidentifiedImageError

    try:
        if data.startswith(b"\xff\xd8"):  # not with Image.open, which refuses large images before they can be reduced
            opened = Image.OPEN["JPEG"][0](io.BytesIO(data), "")
        else:
            opened = Image.open(io.BytesIO(data), formats=formats)
    except SyntaxError as error:
        raise UnidentifiedImageError(str(error)) from error
    with opened as image:  # only the header has been read
        if getattr(image, "tag_v2", {}).get(SUBFILE_TYPE, 0) & 1:
            raise ImageError("expected an image, got the preview of another one, as in camera RAW files")
        stored = image.size
        factor = _reduce(image, min_side)
        upright = _to_rgb(image)
        orientation = _orientation(image)
    if factor == 1:
        return _full_size(upright)
    size = stored[::-1] if orientation in SWAPPED else stored
    width, height = size[0] / factor, size[1] / factor
    left = upright.width - width if orientation in FROM_RIGHT else 0
    top = upright.height - height if orientation in FROM_BOTTOM else 0
    return Reduced(upright, size, (left, top, left + width, top + height))


def _reduce(image: "Image.Image", min_side: int | None) -> int:
    """Let a JPEG decoder leave out pixels, see `open_reduced`. Returns the factor by which both sides shrink."""
    from PIL import Image

    (width, height), factor = image.size, 1
    limit = min(MAX_PIXELS, 2 * (Image.MAX_IMAGE_PIXELS or MAX_PIXELS))  # above twice its limit, Pillow refuses
    largest = MAX_JPEG_PIXELS // (2 if "progressive" in image.info else 1)
    if image.format in ("JPEG", "MPO") and width * height <= largest:
        room = 1 if min_side is None else min(width, height) // min_side
        while factor < 8 and (2 * factor <= room or -(-width // factor) * -(-height // factor) > limit):
            factor *= 2
        image.draft(None, (width // factor, height // factor))
    _check_size(*image.size)
    return factor


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
    is_tensor, shape = isinstance(array, Tensor), list(array.shape)
    first, last = (array.ndim == 3 and shape[end] in (1, 2, 3, 4) for end in (0, -1))  # where the channels may be
    if array.ndim != 2 and not first and not last:
        expected = "a tensor [3, H, W]" if is_tensor else "an array [H, W, 3] or [H, W]"
        raise ImageError(f"expected {expected}, got {shape}")
    if first and shape[0] == shape[2] >= 3:
        raise ImageError(f"expected channels on one end only, got {shape}: pass a PIL image")
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()  # numpy has no bfloat16
    if first and (is_tensor or not last):
        array = array.transpose(1, 2, 0)  # [C, H, W] -> [H, W, C]
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
    elif array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            raise ImageError(f"expected integers in [0, 255], got {low} to {high}")
        array = array.astype(np.uint8, copy=False)
    else:
        raise ImageError(f"expected integers, bool or float, got {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return np.ascontiguousarray(array)


def _scale_16_bit(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, rounded: 65535 = 255 * 257."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
