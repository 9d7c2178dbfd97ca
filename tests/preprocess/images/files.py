"""Files of every kind that a folder of images may contain, with the expected result of decoding each."""

import gzip
import io
import struct
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
PINK = (255, 127, 127)  # red of alpha 128 over white


class Expected(NamedTuple):
    """The expected image: its size, the colors of some pixels, and the tolerance of the colors."""

    size: tuple[int, int]
    pixels: dict[tuple[int, int], tuple[int, int, int]]
    tolerance: int = 0


CORNERS = {(2, 2): RED, (29, 2): GREEN, (2, 13): BLUE, (29, 13): WHITE}
CROSS = Expected((32, 16), CORNERS)  # of `upright`


def pixel(*color: int) -> Expected:
    return Expected((1, 1), {(0, 0): color})


def small(*color: int, off: int = 0) -> Expected:
    return Expected((4, 3), {(0, 0): color}, off)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG from its parts. Each row begins with a zero byte, for "no filter"."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + body + chunk(b"IEND", b"")


def red_png(*chunks: bytes) -> bytes:
    """One red pixel."""
    return png(1, 1, 8, 2, b"\0" + bytes(RED), *chunks)


def exif(orientation: int) -> bytes:
    table = Image.Exif()
    table[0x0112] = orientation
    return table.tobytes()


def upright() -> np.ndarray:
    """[16, 32, 3]: red and green above blue and white"""
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16], image[:8, 16:], image[8:, :16], image[8:, 16:] = RED, GREEN, BLUE, WHITE
    return image


def stored(orientation: int) -> Image.Image:
    """`upright` as stored with this EXIF orientation (EXIF 2.3, tag 274: the position of row and column 0)."""
    image = upright()
    transposed = image.transpose(1, 0, 2)
    stored_as = {
        1: image,  # top, left
        2: image[:, ::-1],  # top, right
        3: image[::-1, ::-1],  # bottom, right
        4: image[::-1],  # bottom, left
        5: transposed,  # left, top
        6: transposed[::-1],  # right, top
        7: transposed[::-1, ::-1],  # right, bottom
        8: transposed[:, ::-1],  # left, bottom
    }
    return Image.fromarray(np.ascontiguousarray(stored_as[orientation]))


def edge_files() -> dict[str, tuple[bytes, Expected | str]]:
    """File name -> contents, and the expected image or a pattern of the expected error."""
    return {**rotated_files(), **good_files(), **deep_files(), **odd_files(), **bad_files()}


def rotated_files() -> dict[str, tuple[bytes, Expected | str]]:
    fine: dict[str, Any] = {"quality": 100, "subsampling": 0}
    files: dict[str, tuple[bytes, Expected | str]] = {}
    for i in range(1, 9):
        jpeg, expected = saved(stored(i), "JPEG", exif=exif(i), **fine), Expected((32, 16), CORNERS, 6)
        files |= {f"rotated {i}.jpg": (jpeg, expected)}
        files |= {f"rotated {i}.png": (saved(stored(i), "PNG", exif=exif(i)), CROSS)}
    return {
        **files,
        "rotated 6.tif": (saved(stored(6), "TIFF", exif=exif(6)), CROSS),
        "rotated 6.webp": (saved(stored(6), "WEBP", exif=exif(6), lossless=True), CROSS),
        "rotated 9.png": (saved(stored(1), "PNG", exif=exif(9)), CROSS),
    }


def good_files() -> dict[str, tuple[bytes, Expected | str]]:
    cross = Image.fromarray(upright())
    red = Image.new("RGB", (4, 3), RED)
    half = Image.new("RGBA", (4, 3), (*RED, 128))
    palette = Image.new("P", (4, 3), 1)
    palette.putpalette([*GREEN, *RED])
    gray_alpha = Image.new("LA", (4, 3), (0, 128))
    frames: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (4, 3), BLUE)]}
    transparent_red = chunk(b"tRNS", struct.pack(">3H", *RED))
    fine = {"quality": 100, "subsampling": 0}
    return {
        "progressive.jpg": (saved(cross, "JPEG", progressive=True, **fine), Expected((32, 16), CORNERS, 6)),
        "cmyk.jpg": (saved(red.convert("CMYK"), "JPEG", quality=100), small(*RED, off=3)),
        "cmyk.tif": (saved(red.convert("CMYK"), "TIFF"), small(*RED)),
        "gray.jpg": (saved(Image.new("L", (4, 3), 77), "JPEG"), small(77, 77, 77, off=1)),
        "ycbcr.tif": (saved(red.convert("YCbCr"), "TIFF"), small(*RED, off=2)),
        "palette.png": (saved(palette, "PNG"), small(*RED)),
        "palette, half transparent.png": (saved(palette, "PNG", transparency=b"\xff\x80"), small(*PINK, off=1)),
        "palette, transparent.png": (saved(palette, "PNG", transparency=1), small(*WHITE)),
        "palette, transparent.gif": (saved(palette, "GIF", transparency=1), small(*WHITE)),
        "gray with alpha.png": (saved(gray_alpha, "PNG"), small(127, 127, 127, off=1)),
        "alpha.png": (saved(half, "PNG"), small(*PINK, off=1)),
        "alpha.tif": (saved(half, "TIFF"), small(*PINK, off=1)),
        "alpha.webp": (saved(half, "WEBP", lossless=True), small(*PINK, off=1)),
        "one transparent color.png": (red_png(transparent_red), pixel(*WHITE)),
        "animated.gif": (saved(red, "GIF", **frames), small(*RED)),
        "animated.webp": (saved(red, "WEBP", lossless=True, **frames), small(*RED)),
        "animated.png": (saved(red, "PNG", **frames), small(*RED)),
        "pages.tif": (saved(red, "TIFF", **frames), small(*RED)),
        "two views.mpo": (saved(red, "MPO", quality=100, **frames), small(*RED, off=3)),
        "lzw.tif": (saved(cross, "TIFF", compression="tiff_lzw"), CROSS),
        "plain.bmp": (saved(cross, "BMP"), CROSS),
        "plain.ppm": (saved(cross, "PPM"), CROSS),
        "plain.webp": (saved(cross, "WEBP", lossless=True), CROSS),
    }


def deep_files() -> dict[str, tuple[bytes, Expected | str]]:
    """1, 16 and 32 bits per channel."""
    gray = small(117, 117, 117)  # 30000 / 257
    one, half = Image.new("1", (4, 3), 1), Image.new("F", (4, 3), 0.5)
    little, big = Image.new("I;16", (4, 3), 30000), Image.new("I;16B", (4, 3), 30000)
    clear = chunk(b"tRNS", struct.pack(">H", 1000))
    partly_transparent = png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 1000, 30000), clear)
    color = png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0, 30000, 65535))
    wide = b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", -3, 1e30)
    return {
        "1 bit.png": (saved(one, "PNG"), small(*WHITE)),
        "1 bit.tif": (saved(one, "TIFF", compression="group4"), small(*WHITE)),
        "1 bit.pbm": (b"P4\n8 1\n\x0f", Expected((8, 1), {(0, 0): WHITE, (7, 0): BLACK})),
        "16 bit.png": (saved(little, "PNG"), gray),
        "16 bit, white.png": (saved(Image.new("I;16", (4, 3), 65535), "PNG"), small(*WHITE)),
        "16 bit, transparent.png": (partly_transparent, Expected((2, 1), {(0, 0): WHITE, (1, 0): (117, 117, 117)})),
        "16 bit color.png": (color, pixel(0, 117, 255)),
        "16 bit.tif": (saved(little, "TIFF"), gray),
        "16 bit, big-endian.tif": (saved(big, "TIFF"), gray),
        "16 bit, dark.pgm": (b"P5 1 1 65535\n" + struct.pack(">H", 200), pixel(1, 1, 1)),
        "32 bit.tif": (saved(Image.new("I", (4, 3), 30000), "TIFF"), gray),
        "float.tif": (saved(half, "TIFF"), small(128, 128, 128)),
        "float, any range.pfm": (wide, Expected((2, 1), {(0, 0): BLACK, (1, 0): WHITE})),
    }


def odd_files() -> dict[str, tuple[bytes, Expected | str]]:
    """Unusual but readable."""
    cross, red = Image.fromarray(upright()), Image.new("RGB", (4, 3), RED)
    tall, wide = Image.new("RGB", (1, 5000), RED), Image.new("L", (5000, 1), 7)
    bad_exif = b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 9
    jpeg = saved(red, "JPEG", quality=100)
    odd_profile = saved(red, "JPEG", quality=100, icc_profile=b"no" * 99)
    odd_exif = saved(red, "JPEG", quality=100, exif=b"Exif\0\0" + bad_exif)
    return {
        "1x1.png": (red_png(), pixel(*RED)),
        "1x5000.png": (saved(tall, "PNG"), Expected((1, 5000), {(0, 4999): RED})),
        "5000x1.gif": (saved(wide, "GIF"), Expected((5000, 1), {(4999, 0): (7, 7, 7)})),
        "really a png.jpg": (saved(cross, "PNG"), CROSS),
        "no suffix": (saved(cross, "PNG"), CROSS),
        "bad profile.jpg": (odd_profile, small(*RED, off=3)),
        "bad profile.png": (red_png(chunk(b"iCCP", b"a\0\0no")), pixel(*RED)),
        "bad exif.jpg": (odd_exif, small(*RED, off=3)),
        "bad exif.png": (red_png(chunk(b"eXIf", bad_exif)), pixel(*RED)),
        "text bomb.png": (red_png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21)))), pixel(*RED)),
        "bad animation.png": (red_png(chunk(b"acTL", bytes(8))), pixel(*RED)),
        "trailing bytes.jpg": (jpeg + bytes(99), small(*RED, off=3)),
    }


def bad_files() -> dict[str, tuple[bytes, Expected | str]]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    jpeg, whole, progressive = (saved(noise, "JPEG"), saved(noise, "PNG"), saved(noise, "JPEG", progressive=True))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    huge_gif = saved(noise, "GIF").replace(struct.pack("<2H", 64, 48), b"\xff" * 4)
    undefined = b"Pf\n1 1\n-1.0\n" + struct.pack("<f", float("nan"))
    return {
        "empty.jpg": (b"", "expected an image, got an empty file"),
        "text.jpg": (b"not an image at all", "expected JPEG, .* got text"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "got SVG"),
        "not found.jpg": (b"\n<!DOCTYPE html><html></html>", "got HTML"),
        "photos.jpg": (zipped.getvalue(), "got a ZIP archive"),
        "photo.jpg.gz": (gzip.compress(jpeg), "got a gzip file"),
        "document.pdf": (b"%PDF-1.7\n", "got a PDF"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "got PostScript"),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "got a HEIF whose header is damaged"),
        "video.jpg": (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "got an MP4 or similar file"),
        "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "got a Git LFS pointer"),
        "zeros.png": (bytes(1000), "got unknown binary data"),
        "start of.jpg": (jpeg[:2], "got a JPEG whose header is damaged"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "half progressive.jpg": (progressive[: len(progressive) // 2], "truncated"),
        "no end.jpg": (jpeg[:-2], "truncated"),
        "half.png": (whole[: len(whole) // 2], "truncated"),
        "half.gif": (saved(noise, "GIF")[:2000], "truncated"),
        "half.bmp": (saved(noise, "BMP")[:2000], "truncated"),
        "half.tif": (saved(noise, "TIFF")[:3000], "truncated"),
        "half.webp": (saved(noise, "WEBP")[:500], "damaged or not supported"),
        "damaged.png": (whole[:2000] + b"\xff" * 200 + whole[2200:], "damaged or not supported"),
        "bomb.png": (png(60000, 60000, 8, 2, b""), "at most 134217728 pixels, got more"),
        "smaller bomb.png": (png(12000, 12000, 1, 0, b""), "134217728 pixels, got 12000 x 12000"),
        "bomb.gif": (huge_gif, "at most 134217728 pixels, got"),
        "no width.png": (png(0, 5, 8, 2, b""), "got a PNG whose header is damaged"),
        "undefined.pfm": (undefined, "expected finite gray values"),
    }
