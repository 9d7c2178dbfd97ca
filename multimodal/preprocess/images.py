"""The one way from anything that may be a picture to an RGB image, safe with files of any origin.

H, W = height, width; C = channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha
"""

import io
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

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
TOLERANCE = 1e-3  # floats so little outside [0, 1] are rounding, and clipped

# What a file is by its first bytes, for the message when it cannot be read
_KINDS = (
    (b"\xff\xd8", "a JPEG"),
    (b"\x89PNG", "a PNG"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
)
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "a Photoshop file"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)
_loading = threading.Lock()  # a lazy PIL image that is given twice must not be read by two threads at once


class ImageError(ValueError):
    """A picture that cannot be used; the message is the reason in a few words."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """A path at which there is nothing."""


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
    try:
        with quiet():
            return _open(source)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise ImageError(_reason(error)) from error


def _open(source: Any) -> "Image.Image":
    from PIL import Image

    if isinstance(source, str | os.PathLike):
        return _decode(_read(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source))
    if isinstance(source, Image.Image):
        _check_size(*source.size)
        with _loading:
            return _to_rgb(source)
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
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


def _decode(data: bytes) -> "Image.Image":
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError("expected a picture, got an empty file")
    if len(data) > MAX_BYTES:
        raise ImageError(f"expected at most {MAX_BYTES} bytes, got {len(data)}")
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # AVIF came with Pillow 11.3
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:  # reads the header only
            _check_size(*image.size)
            return _to_rgb(image)
    except UnidentifiedImageError as error:
        raise ImageError(f"expected {', '.join(formats)}, got {_kind(data)}") from error


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
    """How to turn the picture upright; None where it is, or where its EXIF cannot be read."""
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
    try:
        return turns.get(image.getexif().get(ORIENTATION))
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


def _kind(data: bytes) -> str:
    """What the bytes are, as far as their beginning tells."""
    for start, name in _KINDS:
        if data.startswith(start):
            return f"{name} whose header is damaged or of an unknown kind"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WEBP whose header is damaged or of an unknown kind"
    if data[4:8] == b"ftyp":
        return f"a file of type {data[8:12].decode('ascii', 'replace').strip()!r}"  # HEIC, MP4, ...
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, name in _OTHERS:
        if head.startswith(start.lower()):
            return name
    return "text" if head.isascii() and b"\x00" not in head else "something else"


def _reason(error: Exception) -> str:
    """One short line, whatever Pillow has to say."""
    from PIL.Image import DecompressionBombError

    if isinstance(error, MemoryError):
        return "does not fit into memory"
    text = " ".join(str(error).split())[:160] or type(error).__name__
    if isinstance(error, DecompressionBombError):  # Pillow's own limit, at the header
        return f"expected at most {MAX_PIXELS} pixels, got more: {text}"
    return f"damaged or not supported: {text}"
