import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageFile

from multimodal.preprocess import ImageError, open_image
from multimodal.preprocess.images import decode

from .files import BLUE, CORNERS, edge_files, exif, saved, stored, upright

EDGES = edge_files()


def test_number_of_edge_files():
    assert len(EDGES) >= 40


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("as_path", [False, True], ids=["bytes", "path"])
def test_edge_files(name, as_path, tmp_path):
    data, expected = EDGES[name]
    source = data
    if as_path:
        source = tmp_path / name
        source.write_bytes(data)
    if isinstance(expected, str):
        with pytest.raises(ImageError, match=expected) as caught:
            open_image(source)
        assert len(str(caught.value)) < 250
        assert "\n" not in str(caught.value)
        return
    image = open_image(source)
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    assert image.size == expected.size
    for place, color in expected.pixels.items():
        assert np.abs(np.subtract(image.getpixel(place), color)).max() <= expected.tolerance, place


def test_result_has_no_metadata():
    """Otherwise opening it again would apply the orientation twice."""
    data = saved(stored(6), "PNG", exif=exif(6))
    once = open_image(data)
    assert once.info == {}
    assert np.array_equal(open_image(once), upright())


def test_orientation_in_xmp():
    packet = b'<rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF>'
    image = open_image(saved(stored(6), "WEBP", lossless=True, xmp=packet))
    assert np.array_equal(image, upright())


def test_lazy_images_match_their_files(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(stored(8), "PNG", exif=exif(8)))
    with Image.open(path) as image:
        assert np.array_equal(open_image(image), upright())
        assert image.getexif()[0x0112] == 8  # the input is not changed
        assert image.size == (16, 32)
    with Image.open(path) as image:
        pass
    with pytest.raises(ImageError, match="damaged or not supported"):  # closed
        open_image(image)
    path.write_bytes(EDGES["half.png"][0])
    with Image.open(path) as image, pytest.raises(ImageError, match="truncated"):
        open_image(image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("min_side", "scale"), [(None, 1), (400, 1), (301, 1), (151, 2), (75, 4), (7, 8)])
def test_reduced_jpeg(orientation, min_side, scale):
    """No side is smaller than `min_side`. Image and original size are upright."""
    big = stored(orientation).resize((601, 302) if orientation < 5 else (302, 601), Image.Resampling.NEAREST)
    found = decode.open_reduced(saved(big, "JPEG", quality=100, exif=exif(orientation)), min_side)
    assert found.size == (601, 302)
    assert found.image.size == (-(-601 // scale), -(-302 // scale))
    left, top, right, bottom = found.box
    assert (right - left, bottom - top) == (601 / scale, 302 / scale)
    assert (left > 0) == (orientation in (2, 3, 6, 7) and scale > 1)
    assert (top > 0) == (orientation in (3, 4, 7, 8) and scale > 2)
    assert (right, bottom) <= found.image.size
    assert found.image.info == {}
    for (x, y), color in CORNERS.items():
        place = (x * found.image.width // 32, y * found.image.height // 16)
        assert np.abs(np.subtract(found.image.getpixel(place), color)).max() <= 6


def test_only_jpeg_files_are_reduced(tmp_path):
    big = Image.fromarray(upright()).resize((640, 320))
    jpeg = saved(big, "JPEG")
    (tmp_path / "a.jpg").write_bytes(jpeg)
    assert decode.open_reduced(tmp_path / "a.jpg", 32).image.size == (80, 40)
    with Image.open(tmp_path / "a.jpg") as lazy:  # the caller may need it at full size
        assert decode.open_reduced(lazy, 32).image.size == (640, 320)
    for source in (saved(big, "PNG"), saved(big, "WEBP"), saved(big, "TIFF", compression="jpeg"), big, np.array(big)):
        found = decode.open_reduced(source, 32)
        assert (found.size, found.image.size, found.box) == ((640, 320), (640, 320), (0, 0, 640, 320))


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_modes_of_pil(mode):
    """Black and white are the same in every mode."""
    for value in (0, 255):
        plain = Image.new("RGB", (3, 2), (value,) * 3)
        if mode == "La":
            image = plain.convert("LA").convert("La")
        elif mode == "RGBa":
            image = plain.convert("RGBA").convert("RGBa")
        elif mode == "PA":
            image = plain.convert("RGBA").convert("PA")
        else:
            image = plain.convert(mode)
        assert image.mode == mode
        before = image.tobytes()
        result = open_image(image)
        assert result is not image
        assert np.abs(np.asarray(result).astype(int) - value).max() <= (0 if mode != "LAB" else 1)
        assert image.tobytes() == before


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N"])
def test_16_bit_modes(mode):
    for value in (0, 128, 129, 257, 30000, 65406, 65407, 65535):
        pixel = open_image(Image.new(mode, (2, 2), value)).getpixel((1, 1))
        assert pixel == (round(value / 257),) * 3


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("F", [0.0, 0.5, 1.0], [0, 128, 255]),
        ("F", [0.0, 100.4, 255.0], [0, 100, 255]),
        ("F", [0.0, 2570.0, 65535.0], [0, 10, 255]),
        ("F", [-1.0, 0.0, 1.0], [0, 128, 255]),
        ("F", [0.0, 5e9, 1e10], [0, 128, 255]),
        ("F", [-7.0, -7.0, -7.0], [0, 0, 0]),
        ("I", [0, 1, 255], [0, 1, 255]),
        ("I", [0, 257, 65535], [0, 1, 255]),
        ("I", [-(2**31), 0, 2**31 - 1], [0, 128, 255]),
    ],
)
def test_32_bit_modes(mode, values, expected):
    image = Image.fromarray(np.array([values], dtype=np.int32 if mode == "I" else np.float32))
    assert image.mode == mode
    assert [pixel[0] for pixel in np.asarray(open_image(image))[0]] == expected


@given(npst.arrays(np.uint8, (3, 2, 4)))
def test_transparency_over_white(rgba):
    result = np.asarray(open_image(Image.fromarray(rgba)))
    alpha = rgba[..., 3:] / 255
    assert np.abs(result - (rgba[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1
    assert np.array_equal(result, open_image(rgba))


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(npst.arrays(np.uint8, st.one_of(shapes, shapes.map(lambda s: (*s, 1)), shapes.map(lambda s: (*s, 3)))))
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_uint8_arrays(array):
    assume(array.ndim == 2 or array.shape[2] == 1 or 3 not in array.shape[:2])
    result = np.asarray(open_image(array))
    assert result.shape == (*array.shape[:2], 3)
    expected = array[..., None] if array.ndim == 2 else array
    assert (result == expected).all()
    channels_first = torch.from_numpy(expected.transpose(2, 0, 1).copy())
    assert np.array_equal(open_image(channels_first), result)


@given(npst.arrays(np.uint16, shapes))
def test_uint16_arrays(array):
    expected = np.rint(array / 257)
    assert (np.asarray(open_image(array))[..., 0] == expected).all()
    assert (np.asarray(open_image(array.astype(">u2")))[..., 0] == expected).all()
    assert (np.asarray(open_image(torch.from_numpy(array)))[..., 0] == expected).all()


@given(npst.arrays(np.float64, (2, 5, 3), elements=st.floats(0, 1)))
def test_float_arrays(array):
    expected = array * 255
    for same in (array, array.astype(np.float32), torch.from_numpy(array).permute(2, 0, 1)):
        assert np.abs(np.asarray(open_image(same)) - expected).max() <= 0.51
    for rounded in (array.astype(np.float16), torch.from_numpy(array).permute(2, 0, 1).bfloat16()):
        assert np.abs(np.asarray(open_image(rounded)) - expected).max() <= 1.5


def test_other_arrays():
    assert np.asarray(open_image(np.array([[True, False]])))[0, :, 0].tolist() == [255, 0]
    array = upright()
    assert np.array_equal(open_image(array[::-1, ::2]), array[::-1, ::2])  # not contiguous
    tensor = torch.from_numpy(array).permute(2, 0, 1).float().div(255).requires_grad_()
    assert np.array_equal(open_image(tensor), array)
    assert np.asarray(open_image(np.array([[1.0005, -0.0005]])))[0, :, 0].tolist() == [255, 0]
    before = array.copy()
    open_image(array).putpixel((0, 0), BLUE)
    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "expected a path, bytes, a PIL image, an array or a tensor, got NoneType"),
        (3, "got int"),
        ({}, "got NoneType"),
        ({"image": b"x"}, "got dict"),
        (object, "got type"),
        (np.zeros(5), r"expected an array \[H, W, 3\] or \[H, W\], got \[5\]"),
        (np.zeros((2, 5, 5, 3)), r"got \[2, 5, 5, 3\]"),
        (np.zeros((5, 7, 7)), r"got \[5, 7, 7\]"),
        (np.zeros((0, 5, 3), np.uint8), "expected at least 1 x 1 pixels, got 5 x 0"),
        (np.zeros((5, 0)), "expected at least 1 x 1 pixels, got 0 x 5"),
        (np.full((5, 5), 256), r"expected integers in \[0, 255\], got 256 to 256"),
        (np.full((5, 5), -1, np.int8), r"expected integers in \[0, 255\], got -1 to -1"),
        (np.zeros((5, 5), complex), "expected integers, bool or float, got complex128"),
        (np.zeros((3, 9, 3), np.uint8), r"expected channels on one end only, got \[3, 9, 3\]"),
        (torch.zeros(4, 9, 4), r"expected channels on one end only, got \[4, 9, 4\]"),
        (np.zeros((5, 5), object), "got object"),
        (np.full((5, 5), 255.0), r"expected floats in \[0, 1\], got 255 to 255"),
        (np.full((5, 5), np.nan), "got nan to nan"),
        (np.full((5, 5), -np.inf), "got -inf to -inf"),
        (np.broadcast_to(np.uint8(0), (2**14, 2**14)), "at most 134217728 pixels, got 16384 x 16384"),
        (torch.zeros(7, 7, 5), r"expected a tensor \[3, H, W\], got \[7, 7, 5\]"),
        (torch.zeros(3, 0, 4), "expected at least 1 x 1 pixels, got 4 x 0"),
        (torch.full((3, 4, 4), 300), r"expected integers in \[0, 255\], got 300 to 300"),
        (torch.zeros(3, 4, 4, device="meta"), "damaged or not supported"),
        (torch.zeros(3, 4, 4).to_sparse(), "damaged or not supported"),
        (Image.new("RGB", (0, 3)), "expected at least 1 x 1 pixels, got 0 x 3"),
        ("", "no such file"),
        ("no/such/file.jpg", "no such file"),
        ("nul\0byte.jpg", "damaged or not supported: .*null"),
        ("x" * 9999, "cannot be read"),
        (Path(__file__).parent, "expected a file, got a folder"),
        (Path(__file__) / "a.jpg", "cannot be read"),
    ],
)
def test_invalid_sources_are_refused(source, reason):
    with pytest.raises(ImageError, match=reason):
        open_image(source)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="expected a regular file"):
        open_image(tmp_path / "a.jpg")


def test_limits(tmp_path, monkeypatch):
    data = saved(Image.fromarray(upright()), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    monkeypatch.setattr(decode, "MAX_BYTES", len(data))
    assert open_image(data).size == open_image(path).size == (32, 16)
    monkeypatch.setattr(decode, "MAX_BYTES", len(data) - 1)
    for source in (data, path):
        with pytest.raises(ImageError, match=f"expected at most {len(data) - 1} bytes, got {len(data)}"):
            open_image(source)
    monkeypatch.undo()
    monkeypatch.setattr(decode, "MAX_PIXELS", 512)
    assert open_image(data).size == (32, 16)
    monkeypatch.setattr(decode, "MAX_PIXELS", 511)
    for source in (data, path, upright(), Image.fromarray(upright())):
        with pytest.raises(ImageError, match="expected at most 511 pixels, got 32 x 16"):
            open_image(source)


@pytest.mark.parametrize("size", [(20_000, 8_000), (30_000, 6_000), (6_000, 30_000), (12_000, 12_000)])
def test_panoramas(size):
    """JPEGs of more than MAX_PIXELS are decoded at half their size."""
    ramp = np.tile(np.arange(size[1] // 40, dtype=np.uint8)[:, None], (40, size[0]))
    image = open_image(saved(Image.fromarray(ramp), "JPEG", progressive=size == (12_000, 12_000)))
    assert image.size == (size[0] // 2, size[1] // 2)


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "PPM"])
def test_panoramas_of_other_formats_are_refused(kind):
    with pytest.raises(ImageError, match="expected at most 134217728 pixels, got 24000 x 6000"):
        open_image(saved(Image.new("1", (24_000, 6_000)), kind))


def test_limits_of_panoramas(monkeypatch):
    image = Image.new("L", (320, 160))
    monkeypatch.setattr(decode, "MAX_PIXELS", 799)
    for options, share in (({}, 1), ({"progressive": True}, 2)):
        data = saved(image, "JPEG", **options)
        with pytest.raises(ImageError, match="expected at most 799 pixels, got 40 x 20"):  # 1/8 is the least
            open_image(data)
        monkeypatch.setattr(decode, "MAX_PIXELS", 800)
        assert open_image(data).size == (40, 20)
        with monkeypatch.context() as lower:
            lower.setattr(decode, "MAX_JPEG_PIXELS", share * (320 * 160 - 1))
            with pytest.raises(ImageError, match="expected at most 800 pixels, got 320 x 160"):
                open_image(data)
        monkeypatch.setattr(decode, "MAX_PIXELS", 799)


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint32", "uint64", "uint8", "float32", "bool"])
def test_channels_on_the_other_end(dtype):
    array = (upright() / 255 if dtype == "float32" else upright()).astype(dtype)
    first = np.ascontiguousarray(array.transpose(2, 0, 1))
    forms = [array, first, torch.from_numpy(array), torch.from_numpy(first)]
    for same in forms:
        assert np.array_equal(open_image(same), upright()), (type(same), same.shape)
    gray = first[:1]  # [1, H, W]
    assert np.array_equal(open_image(gray), open_image(gray[0]))


def test_settings_of_pillow_are_respected(monkeypatch):
    settings = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    for name in ("rotated 1.jpg", "animated.gif", "float.tif", "bad exif.png"):
        open_image(EDGES[name][0])
    assert settings == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    data = saved(Image.fromarray(upright()), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # 512 pixels: Pillow warns
    with pytest.warns(Image.DecompressionBombWarning):
        assert open_image(data).size == (32, 16)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # Pillow refuses
    with pytest.raises(ImageError, match="512 pixels"):
        open_image(data)


def test_warnings_of_pillow_are_passed_on():
    data = EDGES["bad animation.png"][0]
    with pytest.warns(UserWarning, match="Invalid APNG"):
        assert open_image(data).size == (1, 1)
    assert open_image(data).size == (1, 1)  # with warnings as errors, what causes them is skipped


def test_one_lazy_image_in_many_threads(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(stored(6), "PNG", exif=exif(6)))
    results = []
    for _ in range(20):
        with Image.open(path) as image:
            threads = [threading.Thread(target=lambda image=image: results.append(open_image(image))) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert len(results) == 80
    assert all(result.getpixel(place) == color for result in results for place, color in CORNERS.items())
