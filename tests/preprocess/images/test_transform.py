import dataclasses
import functools
import json

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from multimodal.preprocess import (
    OPENAI_MEAN,
    OPENAI_STD,
    PREPROCESSORS,
    ImageError,
    ImageTransform,
    load_preprocessor,
    open_image,
)
from multimodal.preprocess.images import transform
from multimodal.preprocess.images.transform import RESIZES

from .files import exif, saved

THEIRS = {"crop": "shortest", "squash": "squash", "pad": "longest"}
HALF = (0.5, 0.5, 0.5)
TRANSFORMERS = {  # the defaults of its image processors
    "CLIP": ImageTransform(224, resize="crop_floor"),
    "Siglip": ImageTransform(224, HALF, HALF, "squash"),
    "Blip": ImageTransform(384, resize="squash"),
}


def reference(side, resize="crop", interpolation="bicubic", mean=None, std=None):
    from open_clip.transform import image_transform

    return image_transform(
        side, is_train=False, mean=mean, std=std, resize_mode=THEIRS[resize], interpolation=interpolation
    )


def images():
    """52 images of many sizes: one pixel wide, one pixel high, square, prime, larger and smaller than the result."""
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 90), (90, 1), (2, 77), (64, 64), (63, 64), (65, 64), (640, 427), (32, 32), (31, 200)]
    sizes += [(1999, 1009), (1009, 37)]
    sizes += [tuple(size) for size in rng.integers(1, 260, (40, 2)).tolist()]
    for width, height in sizes:
        yield Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth(width, height, seed=0):
    """An image without pixel-sized detail, like a photograph."""
    blobs = np.random.default_rng(seed).integers(0, 256, (18, 24, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", list(THEIRS))
def test_matches_open_clip(resize, interpolation):
    ours, theirs = ImageTransform(64, resize=resize, interpolation=interpolation), None
    theirs = reference(64, resize, interpolation)
    compared = 0
    for image in images():
        found = ours(image)
        assert found.dtype == torch.float32
        assert found.shape == (3, 64, 64)
        assert found.is_contiguous()
        if resize == "pad" and max(image.size) > 128 * min(image.size):
            continue  # open_clip fails with a side of 0 pixels
        assert torch.equal(found, theirs(image)), image.size
        compared += 1
    assert compared >= 50 or resize == "pad"


@pytest.mark.parametrize("side", [1, 7, 96, 224, 225])
def test_other_sizes(side):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (301, 200, 3), dtype=np.uint8))
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.5, 1.0)
    for resize in THEIRS:
        expected = reference(side, resize, "bicubic", mean, std)(image)
        assert torch.equal(ImageTransform(side, mean, std, resize)(image), expected)


def test_matches_open_clip_for_the_settings_of_all_its_tags():
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained
    from open_clip.transform import PreprocessCfg, image_transform_v2

    resizes = {theirs: ours for ours, theirs in THEIRS.items()}
    asked = {}
    for model, tag in list_pretrained():
        known = {field.name for field in dataclasses.fields(PreprocessCfg)}
        options = {key: value for key, value in get_pretrained_cfg(model, tag).items() if key in known}
        asked[str(sorted(options.items()))] = PreprocessCfg(size=96, **options)
    assert len(asked) >= 8
    for options in asked.values():
        assert options.fill_color == 0
        ours = ImageTransform(96, options.mean, options.std, resizes[options.resize_mode], options.interpolation)
        for image in (smooth(301, 199), smooth(50, 77)):
            assert torch.equal(ours(image), image_transform_v2(options, is_train=False)(image)), options


@functools.cache
def processor(name):
    import transformers

    return getattr(transformers, name)()


@pytest.mark.parametrize("name", list(TRANSFORMERS))
def test_matches_transformers(name):
    theirs, ours = processor(f"{name}ImageProcessorPil"), TRANSFORMERS[name]
    compared = 0
    for image in images():
        plain = theirs(image, do_rescale=False, do_normalize=False)["pixel_values"][0]  # [3, S, S]
        assert np.array_equal(np.asarray(ours.resized(image)), plain.transpose(1, 2, 0)), image.size
        expected = theirs(image, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(ours(image), expected), image.size
        compared += 1
    assert compared >= 50


@pytest.mark.parametrize("name", list(TRANSFORMERS))
def test_transformers_on_torchvision_is_close(name):
    """Its default backend resizes tensors. The tolerances are measured, in gray levels of 255."""
    theirs, ours = processor(f"{name}ImageProcessor"), TRANSFORMERS[name]
    for image in (smooth(641, 427), smooth(427, 641), smooth(224, 225), smooth(97, 50)):
        plain = theirs(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
        drift = (plain.float().permute(1, 2, 0) - torch.from_numpy(np.asarray(ours.resized(image)).copy())).abs()
        assert drift.max() <= 2, image.size
        assert drift.mean() <= 0.1, image.size


def test_gray_images_match_both_libraries():
    gray = smooth(301, 199).convert("L")
    found = ImageTransform(96)(open_image(gray))
    assert torch.equal(found, reference(96)(gray))
    found = TRANSFORMERS["Siglip"](open_image(gray))
    assert torch.equal(found, processor("SiglipImageProcessorPil")(gray, return_tensors="pt")["pixel_values"][0])


def test_crop_and_crop_floor_differ_for_odd_margins():
    """With an odd number of extra columns, one more is cut on the left, or on the right."""
    columns = np.arange(7, dtype=np.uint8)[None, :, None].repeat(4, 0).repeat(3, 2)  # [4, 7, 3]
    kept = {resize: ImageTransform(4, resize=resize).resized(Image.fromarray(columns)) for resize in RESIZES[:2]}
    assert [np.asarray(kept[resize])[0, :, 0].tolist() for resize in RESIZES[:2]] == [[2, 3, 4, 5], [1, 2, 3, 4]]


@pytest.mark.parametrize("resize", RESIZES)
def test_read_opens_and_transforms(resize, draw, tmp_path):
    path = draw(tmp_path / "a.jpg", 1, (640, 480))
    ours = ImageTransform(64, resize=resize)
    for source in (path, path.read_bytes(), open_image(path), np.asarray(open_image(path))):
        assert torch.equal(ours.read(source), ours(open_image(source)))
    with pytest.raises(ImageError, match="got text"):
        ours.read(b"no image")


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_drafts_are_close(resize, orientation):
    """Sides are not divisible by the scale. The tolerances are measured, in gray levels of 255."""
    for seed, (width, height) in enumerate([(1601, 1203), (643, 481), (911, 2503), (3999, 700), (3201, 3209)]):
        jpeg = saved(smooth(width, height, seed), "JPEG", quality=90, exif=exif(orientation))
        draft = ImageTransform(48, (0, 0, 0), (1, 1, 1), resize)
        exact = dataclasses.replace(draft, draft=False)
        drift = (255 * (exact.read(jpeg) - draft.read(jpeg))).abs()
        assert 0 < drift.max() <= 3, (width, height)
        assert drift.mean() <= 0.5, (width, height)


def test_drafts_of_small_images_and_other_formats_are_exact():
    exact, draft = ImageTransform(48, draft=False), ImageTransform(48)
    for image in (saved(smooth(383, 900), "JPEG"), saved(smooth(900, 800), "PNG"), smooth(900, 800)):
        assert torch.equal(exact.read(image), draft.read(image))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 40), st.sampled_from(["bicubic", "bilinear"]))
@example(57, 25, 37, "bicubic")
def test_resizing_only_the_crop(width, height, side, interpolation):
    """If the resized image would be huge, only its center is computed. The result differs by rounding only."""
    x, y = np.arange(width) / width, np.arange(height) / height
    wave = 128 + 50 * np.sin(9 * x) + 50 * np.cos(7 * y[:, None])  # [H, W]
    image = Image.fromarray(np.stack([wave, 255 - wave, wave / 2], -1).astype(np.uint8))
    ours = ImageTransform(side, interpolation=interpolation)
    expected = np.asarray(ours.resized(image)).astype(int)
    limit, transform.MAX_RESIZED_PIXELS = transform.MAX_RESIZED_PIXELS, 0
    try:
        found = np.asarray(ours.resized(image))
    finally:
        transform.MAX_RESIZED_PIXELS = limit
    assert np.abs(found - expected).max() <= 2  # rounded after each direction


def test_long_strips():
    """Fully resized, the last one would take 100 GB of memory."""
    for size in ((1, 5000), (5000, 1), (3, 60000), (1, 2_000_000)):
        image = Image.new("RGB", size, (255, 0, 0))
        for resize in THEIRS:
            found = ImageTransform(224, (0, 0, 0), (1, 1, 1), resize)(image)
            assert found[:, 111, 111].tolist() == [1, 0, 0]


def test_the_input_is_not_changed():
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    before = image.tobytes()
    for resize in THEIRS:
        ImageTransform(8, resize=resize)(image).zero_()
    assert image.tobytes() == before


def test_padding_is_black_on_both_sides():
    found = ImageTransform(8, (0, 0, 0), (1, 1, 1), "pad")(Image.new("RGB", (8, 4), (255, 255, 255)))
    assert found.sum() == 3 * 8 * 4
    assert found[:, 2:6].min() == 1


def test_other_modes_are_refused():
    for image, got in ((Image.new("L", (4, 4)), "L"), (np.zeros((4, 4, 3)), "ndarray"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"expected an RGB image, as returned by open_image, got {got}"):
            ImageTransform(4)(image)


def test_normalize_matches_read(draw, tmp_path):
    paths = [draw(tmp_path / f"{i}.png", i, (64, 48)) for i in range(3)]
    ours = ImageTransform(32, mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 1.0))
    pixels = torch.stack([torch.from_numpy(np.array(ours.resized(open_image(path)))) for path in paths])
    batch = ours.collate([ours.read(path) for path in paths])
    assert batch.shape == (3, 3, 32, 32)
    assert torch.equal(ours.normalize(pixels.permute(0, 3, 1, 2)), batch)


def test_to_dict_and_back():
    ours = ImageTransform(96, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "pad", "bilinear")
    table = json.loads(json.dumps(ours.to_dict()))
    assert table["kind"] == "image"
    assert load_preprocessor(table, ".") == ours
    assert load_preprocessor(table, ".").fingerprint == ours.fingerprint != ImageTransform(96).fingerprint
    assert PREPROCESSORS.from_dict({"kind": "image", "image_size": 32}) == ImageTransform(32)
    assert ImageTransform(32).mean == OPENAI_MEAN
    assert ImageTransform(32).std == OPENAI_STD
    assert ImageTransform(32, [0.5, 0.5, 0.5]) == ImageTransform(32, (0.5, 0.5, 0.5))  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ours.image_size = 7


@pytest.mark.parametrize("size", [np.int64(32), np.int32(32), np.uint8(32), np.int16(32), np.uint64(32)])
def test_numpy_numbers(size):
    ours = ImageTransform(size, np.full(3, 0.5), tuple(np.full(3, 0.25, np.float32)))
    assert ours == ImageTransform(32, (0.5,) * 3, (0.25,) * 3)
    assert json.loads(json.dumps(ours.to_dict())) == ours.to_dict()
    for bad in (np.float64(32), 1.5, True, "32", -size.astype(int)):
        with pytest.raises(ValueError, match="image_size: expected a whole number"):
            ImageTransform(bad)


def test_draft_is_not_part_of_the_table():
    ours = ImageTransform(32, draft=False)
    assert ours == ImageTransform(32)
    assert ours.to_dict() == ImageTransform(32).to_dict()
    assert "draft" not in ours.to_dict()
    assert ImageTransform(32).draft
    with pytest.raises(ValueError, match=r"expected .*'draft': True.*, got"):
        load_preprocessor(ours.to_dict() | {"draft": True}, ".")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"image_size": 0}, "image_size: expected a whole number of at least 1, got 0"),
        ({"image_size": 32.0}, "image_size: expected int, got 32.0"),
        ({"image_size": True}, "image_size: expected int, got True"),
        ({"mean": [0.5, 0.5]}, "mean: expected three numbers, got"),
        ({"mean": ["a", 0.5, 0.5]}, r"mean\[0\]: expected float, got 'a'"),
        ({"mean": [float("nan"), 0.5, 0.5]}, "mean: expected three numbers, got"),
        ({"mean": 0.5}, "mean: expected a list, got 0.5"),
        ({"std": [0.5, 0, 0.5]}, "std: expected three positive numbers, got"),
        ({"resize": "stretch"}, r"resize: expected one of \('crop', .*'pad'\), got 'stretch'"),
        ({"resize": None}, "resize: expected str, got None"),
        ({"interpolation": "nearest"}, "interpolation: expected one of"),
        ({"interpolate": "bicubic"}, r"expected keys among .* got \['interpolate'\]"),
    ],
)
def test_invalid_tables_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        load_preprocessor({**ImageTransform(32).to_dict(), **change}, ".")
    with pytest.raises(ValueError, match="expected"):
        load_preprocessor([], ".")
    with pytest.raises(ValueError, match="image_size"):
        load_preprocessor({"kind": "image"}, ".")
