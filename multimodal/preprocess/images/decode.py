"""The one way from anything that may be a picture to an RGB image, safe with files of any origin.

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

from multimodal.preprocess.kinds import kind_of
from multimodal.preprocess.quiet import quiet

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**27  # 134 million: a photo of 108 megapixels passes; 0.5 GB decoded
MAX_BYTES = 2**28  # of a file, 268 MB
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # MPO is read as JPEG
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
ORIENTATION = 0x0112  # the EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # its values for a picture whose width was stored as its height,
FROM_RIGHT, FROM_BOTTOM = (2, 3, 6, 7), (3, 4, 7, 8)  # or whose left or top was stored last
TOLERANCE = 1e-3  # floats so little outside [0, 1] are rounding, and clipped
_loading = threading.Lock()  # a lazy PIL image that is given twice must not be read by two threads at once


class ImageError(ValueError):
    """A picture that cannot be used; the message is the reason in a few words."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """A path at which there is nothing."""


class Reduced(NamedTuple):
    """A picture that may have been decoded smaller than it is."""

    image: "Image.Image"  # as `open_image` gives it
    size: tuple[int, int]  # width and height of the whole
    box: tuple[float, float, float, float]  # where in `image` that is: left, top, right, bottom


def open_image(source: Any) -> "Image.Image":
    """`source` as a PIL image of mode RGB, a new one, upright and without metadata.

    source: a path, the bytes of a file, a PIL image, an array [H, W] or [H, W, C] (uint8, uint16, bool, or
    float in [0, 1]) or a tensor [H, W] or [C, H, W] (the same types).

    EXIF orientation is applied, alpha is laid over white, 16 bits are scaled to 8, of an animation the first
    frame is taken; colour profiles are ignored. 32-bit gray is taken as of the range [0, 1] (floats only),
    [0, 255] or [0, 65535], the smallest that holds all values, and stretched from its least to its greatest
    value where none does. Raises ImageError, and nothing else, for whatever is not a whole picture of at most
    MAX_PIXELS in a file of at most MAX_BYTES in one of FORMATS.
    """
    return open_reduced(source, None).image


def open_reduced(source: Any, at_least: int | None) -> Reduced:
    """`open_image`, but a JPEG file is decoded smaller as long as no side falls under `at_least` pixels.

    Its decoder computes 1/2, 1/4 or 1/8 of the pixels each way in a fraction of the time; where that does not
    divide a side, the last of them reach beyond the whole. None: nothing is decoded smaller.
    """
    try:
        with quiet():
            return _open(source, at_least)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise ImageError(_reason(error)) from error


def _open(source: Any, at_least: int | None) -> Reduced:
    from PIL import Image

    if isinstance(source, str | os.PathLike):
        return _decode(_read(source), at_least)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), at_least)
    if isinstance(source, Image.Image):
        _check_size(*source.size)
        with _loading:
            return _whole(_to_rgb(source))
    if isinstance(source, Tensor):
        return _whole(_from_tensor(source))
    if isinstance(source, np.ndarray):
        return _whole(_from_array(source))
    raise ImageError(
        f"expected a path, bytes, a PIL image, an array or a tensor, got {type(source).__name__}"
    )


def _read(path: "str | os.PathLike[str]") -> bytes:
    """The contents of the file; never waits for a pipe or a device."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            closed = "" if os.access(path, os.R_OK) else " that may not be read"
            raise ImageError(f"expected a file, got a folder{closed}")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("expected a regular file, got a device, pipe or socket")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"expected at most {MAX_BYTES} bytes, got {status.st_size}")
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ImageNotFoundError("no such file") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _whole(image: "Image.Image") -> Reduced:
    return Reduced(image, image.size, (0, 0, *image.size))


def _decode(data: bytes, at_least: int | None) -> Reduced:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError("expected a picture, got an empty file")
    if len(data) > MAX_BYTES:
        raise ImageError(f"expected at most {MAX_BYTES} bytes, got {len(data)}")
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF came with Pillow 11.3
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:  # reads the header only
            stored = image.size
            _check_size(*stored)
            drafted = None if at_least is None else image.draft(None, (at_least, at_least))
            upright = _to_rgb(image)
            if drafted is None:
                return _whole(upright)
            return _reduced(upright, stored, stored[0] / drafted[1][2], _orientation_tag(image))
    except UnidentifiedImageError as error:
        raise ImageError(f"expected {', '.join(formats)}, got {kind_of(data)}") from error


def _reduced(image: "Image.Image", stored: tuple[int, int], scale: float, orientation: Any) -> Reduced:
    """`image`, upright, of a file of `stored` width and height that was decoded at 1 / scale of them."""
    size = stored[::-1] if orientation in SIDEWAYS else stored
    width, height = size[0] / scale, size[1] / scale
    left = image.width - width if orientation in FROM_RIGHT else 0
    top = image.height - height if orientation in FROM_BOTTOM else 0
    return Reduced(image, size, (left, top, left + width, top + height))


def _to_rgb(image: "Image.Image") -> "Image.Image":
    """Decoded, in RGB over white, upright."""
    image.load()
    orientation = _orientation(
        image
    )  # after the pixels: of a TIFF they are turned, and the tag goes, with them
    if image.mode.startswith("I;16"):
        image = _from_16_bit(image)
    elif image.mode in ("I", "F"):
        image = _from_32_bit(image)
    if image.has_transparency_data:
        image = _over_white(image)
    image = image.convert("RGB")  # a copy where it is RGB already
    if orientation is not None:
        image = image.transpose(orientation)
    image.info.clear()  # or the orientation would be applied again to what is upright
    return image


def _orientation(image: "Image.Image") -> Any:
    """How to turn the picture upright; None where it is, or where nothing says so."""
    from PIL.Image import Transpose

    turns: dict[Any, Transpose] = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(_orientation_tag(image))


def _orientation_tag(image: "Image.Image") -> Any:
    try:
        tag = image.getexif().get(ORIENTATION)
        return tag if isinstance(tag, int) else None
    except Exception:  # the pixels are whole: damaged metadata is no reason to refuse them
        return None


def _over_white(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode == "La":  # alpha is multiplied in; Pillow knows the way to LA only
        image = image.convert("LA")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _from_16_bit(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    values = np.asarray(image)
    gray = _scaled_16_bit(values)
    clear = image.info.get("transparency")  # one gray value that stands for nothing
    if isinstance(clear, int):
        gray = np.where(values == clear, np.uint8(255), gray)
    return Image.fromarray(gray)


def _from_32_bit(image: "Image.Image") -> "Image.Image":
    """Gray of mode I (int32) or F (float32), whose range no file tells; see `open_image`."""
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("expected finite gray values, got infinite or undefined ones")
    if image.format == "PPM" and image.mode == "I":
        high, low = 65535.0, 0.0  # Pillow scales these itself
    elif low >= 0 and high <= 65535:
        low, high = 0.0, next(top for top in _tops(image.mode) if high <= top)
    scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))


def _tops(mode: str) -> tuple[float, ...]:
    return (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)


def _from_tensor(tensor: Tensor) -> "Image.Image":
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 2, 3, 4)):
        raise ImageError(f"expected a tensor [3, H, W], got {list(tensor.shape)}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array = tensor.numpy()
    return _from_array(array if array.ndim == 2 else array.transpose(1, 2, 0))  # [C, H, W] -> [H, W, C]


def _from_array(array: np.ndarray) -> "Image.Image":
    from PIL import Image

    array = np.asarray(array)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(f"expected an array [H, W, 3] or [H, W], got {list(array.shape)}")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = _scaled_16_bit(array)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also where they are not numbers
            raise ImageError(f"expected floats in [0, 1], got {low:.4g} to {high:.4g}")
        array = np.rint(array.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(f"expected uint8, uint16, bool or float, got {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def _scaled_16_bit(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, rounded: 65535 = 255 * 257."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"expected at least 1 x 1 pixels, got {width} x {height}")
    if width * height > MAX_PIXELS:
        raise ImageError(f"expected at most {MAX_PIXELS} pixels, got {width} x {height}")


def _reason(error: Exception) -> str:
    """One short line, whatever Pillow has to say."""
    from PIL.Image import DecompressionBombError

    if isinstance(error, MemoryError):
        return "does not fit into memory"
    text = " ".join(str(error).split())[:160] or type(error).__name__
    if isinstance(error, DecompressionBombError):  # Pillow's own limit, at the header
        return f"expected at most {MAX_PIXELS} pixels, got more: {text}"
    return f"damaged or not supported: {text}"
