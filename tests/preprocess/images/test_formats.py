"""Which files of a folder are images, and files whose pixels are whole but whose metadata are not."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from multimodal.preprocess import ImageError, Sources, decode_all, open_image, resolve
from multimodal.preprocess.images.formats import IMAGE_SUFFIXES, UNREADABLE_SUFFIXES
from multimodal.results import Rejected

from .files import chunk, exif, saved, stored, upright

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
CR2 = b"II*\0\x10\0\0\0CR\2\0" + bytes(60)
UNREADABLE = {  # by content, whatever the name
    "JPEG XL": b"\xff\x0a" + bytes(40),
    "JPEG XL in a container": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
    "HEIC": HEIC,
    "CR2": CR2,
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(40),
    "RAF": b"FUJIFILMCCD-RAW " + bytes(50),
    "ORF": b"IIRO\x08\0\0\0" + bytes(50),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(50),
    "NEF": b"MM\0*\0\0\0\x08\0\x1a" + bytes(50),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "a codestream": b"\xff\x4f\xff\x51" + bytes(40),
    "PSD": b"8BPS\0\1" + bytes(40),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVG in XML": b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg/>",
    "EXR": b"v/1\x01" + bytes(40),
    "DICOM": bytes(128) + b"DICM",
    "a damaged JPEG": b"\xff\xd8\xff\xe0broken",
    "a damaged PNG": b"\x89PNG\r\n\x1a\nxxxx",
    "a damaged WebP": b"RIFF\x10\0\0\0WEBPVP8 xxxx",
    "a damaged GIF": b"GIF89a",
    "a damaged AVIF": b"\0\0\0\x1cftypavif" + bytes(20),
    "a damaged BMP": b"BM" + bytes(12) + b"\x28\0\0\0",
}
NOT_IMAGES = {
    "notes.txt": b"BMW and P3 5 are no images", "m.json": b"{}", "Thumbs.db": b"\xd0\xcf\x11\xe0", "empty": b"",
    "a.sqlite": b"SQLite format 3\0", "video.mp4": b"\0\0\0\x18ftypisom" + bytes(40), "page.html": b"<html><svg></svg>",
    "table.xml": b"<?xml version='1.0'?><rows/>", "paper.pdf": b"%PDF-1.7", "script.ps": b"%!PS",
    "a.wav": b"RIFF\0\0\0\0WAVE",
    "a.zip": b"PK\3\4", "a.npy": b"\x93NUMPY", "a.csv": b"P1,P2\n1,2\n", "utf16.txt": "text".encode("utf-16"),
}  # fmt: skip
WRITTEN = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "GIF": {}, "BMP": {}, "TIFF": {}, "PPM": {}, "AVIF": {}}


def rejected(folder):
    return [result for _, result in decode_all(resolve(folder)) if isinstance(result, Rejected)]


@pytest.mark.parametrize("suffix", [*UNREADABLE_SUFFIXES, ".HEIC", ".NEF", ".Jxl"])
def test_suffixes_of_unreadable_images_are_listed(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    assert resolve(tmp_path).items == [path]
    assert [item.name for item in rejected(tmp_path)] == [str(path)]


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("name", ["photo", "IMG.001"])
def test_contents_of_unreadable_images_are_listed(kind, name, tmp_path):
    (tmp_path / name).write_bytes(UNREADABLE[kind])
    [item] = rejected(tmp_path)
    assert item.name == str(tmp_path / name)
    assert len(item.reason) < 200
    known = {"CR2": "camera RAW", "RAF": "camera RAW", "JPEG XL": "JPEG XL", "PSD": "a Photoshop file", "SVG": "SVG"}
    assert (
        f"got {known[kind]}" in item.reason if kind in known else "expected" in item.reason or "damaged" in item.reason
    )


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("name", ["photo", "photo.dat", "IMG.001", "a.backup", "b.txt"])
def test_contents_are_read_under_any_name(kind, name, tmp_path):
    data = saved(Image.fromarray(upright()), kind, **WRITTEN[kind])
    (tmp_path / name).write_bytes(data)
    [(_, image)] = decode_all(resolve(tmp_path))
    assert np.array_equal(image, open_image(data))


def test_other_files_are_not_listed(tmp_path):
    for name, data in NOT_IMAGES.items():
        (tmp_path / name).write_bytes(data)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert resolve(tmp_path) == Sources([], [], False, False)


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".JFIF", ".Apng"])
def test_readable_suffixes(suffix, tmp_path):
    (tmp_path / f"a{suffix}").write_bytes(saved(Image.fromarray(upright()), "PNG"))
    [(_, image)] = decode_all(resolve(tmp_path))
    assert np.array_equal(image, upright())


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_previews_of_camera_raw_are_refused(compression):
    """The first directory of a DNG or NEF holds a small preview, which must not pass for the photo."""
    preview = Image.fromarray(upright())
    with pytest.raises(ImageError, match="got the preview of another one, as in camera RAW files"):
        open_image(saved(preview, "TIFF", tiffinfo={254: 1}, compression=compression))
    assert open_image(saved(preview, "TIFF", tiffinfo={254: 0}, compression=compression)).size == (32, 16)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_heic(orientation, mode, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    image = stored(orientation).resize((128, 64) if orientation < 5 else (64, 128)).convert(mode)
    path = tmp_path / "a.HEIC"
    pillow_heif.from_pillow(image).save(str(path), quality=-1, exif=exif(orientation))
    expected = Image.fromarray(upright()).convert(mode).convert("RGB").resize((128, 64))
    for source in (path, path.read_bytes()):
        assert np.abs(np.asarray(open_image(source)).astype(int) - np.asarray(expected)).mean() < 2


def test_heic_without_its_package():
    code = (
        "import sys; sys.modules['pillow_heif'] = None; from multimodal.preprocess import open_image\n"
        f"try: open_image({HEIC!r})\nexcept ValueError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "got HEIC, which needs pillow-heif: pip install 'multimodal-models[heic]'" in said


def with_chunks(*chunks: bytes) -> bytes:
    """`stored(6)` as a PNG with its orientation and more chunks before the pixels."""
    data = saved(stored(6), "PNG", exif=exif(6))
    return data[:33] + b"".join(chunks) + data[33:]


def bad_crc(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + b"\1\2\3\4"


TEXT = zlib.compress(b"w" * 9_000_000)
XMP = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF>'
PNGS = {
    "compressed text": with_chunks(chunk(b"zTXt", b"workflow\0\0" + TEXT)),
    "international text": with_chunks(chunk(b"iTXt", b"prompt\0\1\0\0\0" + TEXT)),
    "plain text": with_chunks(chunk(b"tEXt", b"k\0" + bytes(3_000_000))),
    "many texts": with_chunks(*[chunk(b"zTXt", b"k%d\0\0" % i + zlib.compress(b"w" * 900_000)) for i in range(90)]),
    "a large profile": with_chunks(chunk(b"iCCP", b"p\0\0" + zlib.compress(os.urandom(1_600_000)))),
    "a private chunk": with_chunks(bad_crc(b"prVt", b"abcd")),
    "a damaged text": with_chunks(bad_crc(b"tEXt", b"a\0cd")),
    "a damaged profile": with_chunks(bad_crc(b"iCCP", b"a\0\0no")),
    "a text that is not compressed": with_chunks(chunk(b"zTXt", b"a\0\1no")),
    "a text after the pixels": with_chunks()[:-12] + chunk(b"zTXt", b"a\0\0" + TEXT) + chunk(b"IEND", b""),
    "orientation in XMP": saved(stored(6), "PNG")[:33]
    + chunk(b"iTXt", XMP) + bad_crc(b"prVt", b"x") + saved(stored(6), "PNG")[33:],
}  # fmt: skip


@pytest.mark.parametrize("kind", PNGS)
def test_pngs_with_large_or_damaged_metadata(kind):
    assert np.array_equal(open_image(PNGS[kind]), upright())


@pytest.mark.parametrize("kind", PNGS)
def test_damaged_pixels_are_refused_whatever_the_metadata(kind):
    data = PNGS[kind]
    pixels = data.index(b"IDAT") + 4
    for damaged in (data[: pixels + 30], data[:pixels] + b"\xff" * 20 + data[pixels + 20 :]):
        with pytest.raises(ImageError):
            open_image(damaged)
    with pytest.raises(ImageError):
        open_image(data[:29] + b"\0\0\0\0" + data[33:])  # the checksum of the header


def test_bombs_with_damaged_metadata_are_refused():
    size = struct.pack(">II", 12_000, 12_000)
    with pytest.raises(ImageError, match="expected "):
        open_image(
            with_chunks()[:8] + chunk(b"IHDR", size + b"\1\0\0\0\0") + bad_crc(b"tEXt", b"a\0b") + chunk(b"IEND", b"")
        )


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


SEGMENTS = {
    "a short profile": [segment(0xE2, b"ICC_PROFILE\0")],
    "a shorter profile": [segment(0xE2, b"ICC_PROFILE\0\1")],
    "a short JFIF header": [segment(0xE0, b"JFIF\0\1")],
    "a short Adobe segment": [segment(0xEE, b"Adobe")],
    "a malformed MPF index": [segment(0xE2, b"MPF\0II*\0\x08\0\0\0")],
    "EXIF of random bytes": [segment(0xE1, b"Exif\0\0" + os.urandom(3000))],
    "large profiles": [segment(0xE2, b"ICC_PROFILE\0\1\2" + os.urandom(60_000)) for _ in range(30)],
    "comments": [segment(0xFE, os.urandom(60_000)) for _ in range(30)],
    "Photoshop data": [segment(0xED, b"Photoshop 3.0\08BIM\x03\xed\0\0\0\0\0\x10abc")],
}


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", SEGMENTS)
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_with_damaged_metadata(kind, progressive):
    whole = saved(stored(6), "JPEG", exif=exif(6), progressive=progressive)
    place = 4 + int.from_bytes(whole[4:6], "big")  # after the JFIF header: EXIF comes next
    end = place + 2 + int.from_bytes(whole[place + 2 : place + 4], "big")
    data = whole[:end] + b"".join(SEGMENTS[kind]) + whole[end:]
    assert np.array_equal(open_image(data), open_image(whole))
    with pytest.raises(ImageError):
        open_image(data[: -len(whole) // 3])


def webp(*chunks: tuple[bytes, bytes], missing: int = 0, size: int = 0) -> bytes:
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    body = body[: len(body) - missing]
    return b"RIFF" + struct.pack("<I", len(body) + size) + body


def webps():
    plain = saved(stored(6), "WEBP", lossless=True)
    pixels = (b"VP8L", plain[20 : 20 + int.from_bytes(plain[16:20], "little")])
    head = (b"VP8X", b"\x08\0\0\0" + (15).to_bytes(3, "little") + (31).to_bytes(3, "little"))
    orientation = (b"EXIF", exif(6))
    return {
        "truncated XMP": webp(head, pixels, orientation, (b"XMP ", b"x" * 500), missing=400),
        "truncated unknown chunk": webp(head, pixels, orientation, (b"ABCD", b"x" * 500), missing=400),
        "too large a size": webp(head, pixels, orientation, size=5000),
        "too small a size": webp(head, pixels, orientation, size=-90),
        "XMP of random bytes": webp(head, pixels, orientation, (b"XMP ", os.urandom(500))),
        "a large profile": webp(
            (b"VP8X", b"\x28" + head[1][1:]), (b"ICCP", os.urandom(3_000_000)), pixels, orientation
        ),
    }


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", webps())
def test_webps_with_damaged_metadata(kind):
    data = webps()[kind]
    assert np.array_equal(open_image(data), upright())
    with pytest.raises(ImageError):
        open_image(data[:60])


def tiff(*entries: tuple[int, int, int, int], **options) -> bytes:
    """`stored(6)` with its orientation and more entries (tag, type, count, offset)."""
    data = bytearray(saved(stored(6), "TIFF", exif=exif(6), **options))
    [start] = struct.unpack_from("<I", data, 4)
    [count] = struct.unpack_from("<H", data, start)
    old = [bytes(data[place : place + 12]) for place in range(start + 2, start + 2 + 12 * count, 12)]
    new = sorted(
        [*old, *(struct.pack("<HHII", *each) for each in entries)], key=lambda each: int.from_bytes(each[:2], "little")
    )
    data[4:8] = struct.pack("<I", len(data))
    return bytes(data) + struct.pack("<H", len(new)) + b"".join(new) + bytes(4)


TAGS = {
    "a description beyond the end": (270, 2, 100, 10**8),
    "XMP as text": (700, 2, 10, 8),
    "XMP beyond the end": (700, 1, 5000, 10**8),
    "a profile beyond the end": (34675, 7, 5000, 10**8),
    "EXIF beyond the end": (34665, 4, 1, 10**8),
    "an unknown type": (270, 99, 5, 5),
    "a huge count": (315, 2, 2**31, 8),
    "private data": (65000, 7, 100, 10**9),
}


@pytest.mark.parametrize("kind", TAGS)
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_tiffs_with_damaged_tags(kind, compression):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = open_image(tiff(TAGS[kind], compression=compression))
        assert np.array_equal(image, open_image(tiff(compression=compression)))
        assert image.size == (32, 16)


def test_sniffing_is_cheap(tmp_path):
    """Suffixes decide first, so only files with unknown ones are opened."""
    for i in range(300):
        (tmp_path / f"{i}.txt").write_bytes(b"x")
        (tmp_path / f"{i}.jpg").symlink_to("nowhere")  # opening it would fail
    assert len(resolve(tmp_path).items) == 300


def test_files_are_not_read_whole_to_know_them(tmp_path):
    with open(tmp_path / "a.bin", "wb") as file:
        file.truncate(2**40)  # sparse
    assert resolve(tmp_path).items == []


def test_bytes_io_of_any_format_is_not_closed():
    file = io.BytesIO(saved(Image.fromarray(upright()), "PNG"))
    for _ in range(2):
        assert np.array_equal(open_image(file), upright())
