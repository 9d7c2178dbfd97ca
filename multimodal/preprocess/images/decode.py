"""Decoding of any image source to an RGB image, safe for files from untrusted origins."""

import io
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from multimodal.preprocess.images import rgb
from multimodal.preprocess.images.rgb import ImageError

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 2**28  # of a file, 268 MB
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # Pillow's names; JPEG includes MPO
IMAGE_SUFFIXES: tuple[str, ...] = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
# EXIF orientations that swap width and height, and that store the right or the bottom edge first.
SWAPPED, FROM_RIGHT, FROM_BOTTOM = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
# File types by their first bytes, for the error about a file that Pillow cannot identify.
IMAGE_TYPES = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
OTHER_TYPES = {
    b"pk\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip file", b"%pdf": "a PDF", b"%!ps": "PostScript",
    b"8bps": "a Photoshop file", b"<svg": "SVG", b"<?xml": "XML", b"<!doctype html": "HTML", b"<html": "HTML",
    b"version https://git-lfs": "a Git LFS pointer",
}  # fmt: skip
_loading = threading.Lock()  # two threads must not load the same lazy PIL image at once


Size = tuple[int, int]  # width and height
Box = tuple[float, float, float, float]  # left, top, right, bottom


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
            rgb.check_size(*source.size)
            with _loading:
                return _full_size(rgb.to_rgb(source))
        if isinstance(source, Tensor | np.ndarray):
            pixels = rgb.from_tensor(source) if isinstance(source, Tensor) else rgb.from_array(source)
            return _full_size(rgb.to_rgb(Image.fromarray(pixels)))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("does not fit into memory") from error
    except Exception as error:  # Pillow raises nearly any type for damaged files
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        if isinstance(error, Image.DecompressionBombError):  # Pillow checks its own limit first
            raise ImageError(f"expected at most {rgb.MAX_PIXELS} pixels, got more: {reason}") from error
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
            rgb.check_size(*stored)
            draft = None if min_side is None else image.draft(None, (min_side, min_side))
            upright = rgb.to_rgb(image)
            orientation = rgb.orientation_tag(image)
    except UnidentifiedImageError as error:
        raise ImageError(f"expected {', '.join(formats)}, got {file_type(data)}") from error
    if draft is None:
        return _full_size(upright)
    size = stored[::-1] if orientation in SWAPPED else stored
    scale = stored[0] / draft[1][2]
    width, height = size[0] / scale, size[1] / scale
    left = upright.width - width if orientation in FROM_RIGHT else 0
    top = upright.height - height if orientation in FROM_BOTTOM else 0
    return Reduced(upright, size, (left, top, left + width, top + height))


def file_type(data: bytes) -> str:
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
