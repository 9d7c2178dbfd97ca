import dataclasses
import functools
import json

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from multimodal.preprocess import OPENAI_MEAN, OPENAI_STD, ImageError, ImageTransform, open_image, transform
from multimodal.preprocess.transform import RESIZES

from .files import exif, saved

THEIRS = {"crop": "shortest", "squash": "squash", "pad": "longest"}
HALF = (0.5, 0.5, 0.5)
TRANSFORMERS = {  # its image processors as they are when nothing is said
    "CLIP": ImageTransform(224, resize="crop_floor"),
    "Siglip": ImageTransform(224, HALF, HALF, "squash"),
    "Blip": ImageTransform(384, resize="squash"),
}


def reference(side, resize="crop", interpolation="bicubic", mean=None, std=None):
    from open_clip.transform import image_transform

    return image_transform(
        side, is_train=False, mean=mean, std=std, resize_mode=THEIRS[resize], interpolation=interpolation
    )


def pictures():
    """52 pictures of odd sizes: a pixel wide, a pixel high, square, prime, larger and smaller than the result."""
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 90), (90, 1), (2, 77), (64, 64), (63, 64), (65, 64), (640, 427), (32, 32), (31, 200)]
    sizes += [(1999, 1009), (1009, 37)]
    sizes += [tuple(size) for size in rng.integers(1, 260, (40, 2)).tolist()]
    for width, height in sizes:
        yield Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth(width, height, seed=0):
    """What a photograph has: no detail as small as a pixel."""
    blobs = np.random.default_rng(seed).integers(0, 256, (18, 24, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", list(THEIRS))
def test_the_same_numbers_as_open_clip(resize, interpolation):
    ours, theirs = ImageTransform(64, resize=resize, interpolation=interpolation), None
    theirs = reference(64, resize, interpolation)
    compared = 0
    for picture in pictures():
        found = ours(picture)
        assert found.dtype == torch.float32
        assert found.shape == (3, 64, 64)
        assert found.is_contiguous()
        if resize == "pad" and max(picture.size) > 128 * min(picture.size):
            continue  # open_clip asks for a side of 0 pixels there
        assert torch.equal(found, theirs(picture)), picture.size
        compared += 1
    assert compared >= 50 or resize == "pad"


@pytest.mark.parametrize("side", [1, 7, 96, 224, 225])
def test_other_sides(side):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (301, 200, 3), dtype=np.uint8))
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.5, 1.0)
    for resize in THEIRS:
        expected = reference(side, resize, "bicubic", mean, std)(picture)
        assert torch.equal(ImageTransform(side, mean, std, resize)(picture), expected)


def test_all_that_the_tags_of_open_clip_ask_for():
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
        ours = ImageTransform(
            96, options.mean, options.std, resizes[options.resize_mode], options.interpolation
        )
        for picture in (smooth(301, 199), smooth(50, 77)):
            assert torch.equal(ours(picture), image_transform_v2(options, is_train=False)(picture)), options


@functools.cache
def processor(name):
    import transformers

    return getattr(transformers, name)()


@pytest.mark.parametrize("name", list(TRANSFORMERS))
def test_the_same_numbers_as_transformers(name):
    theirs, ours = processor(f"{name}ImageProcessorPil"), TRANSFORMERS[name]
    compared = 0
    for picture in pictures():
        plain = theirs(picture, do_rescale=False, do_normalize=False)["pixel_values"][0]  # [3, S, S]
        assert np.array_equal(np.asarray(ours.resized(picture)), plain.transpose(1, 2, 0)), picture.size
        expected = theirs(picture, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(ours(picture), expected), picture.size
        compared += 1
    assert compared >= 50


@pytest.mark.parametrize("name", list(TRANSFORMERS))
def test_transformers_on_torchvision_is_a_little_off(name):
    """Its default backend resizes tensors; how far that is from Pillow was measured, in levels of 255."""
    theirs, ours = processor(f"{name}ImageProcessor"), TRANSFORMERS[name]
    for picture in (smooth(641, 427), smooth(427, 641), smooth(224, 225), smooth(97, 50)):
        plain = theirs(picture, do_rescale=False, do_normalize=False)["pixel_values"][0]
        drift = (
            plain.float().permute(1, 2, 0) - torch.from_numpy(np.asarray(ours.resized(picture)).copy())
        ).abs()
        assert drift.max() <= 2, picture.size
        assert drift.mean() <= 0.1, picture.size


def test_gray_is_resized_before_or_after_its_colours():
    gray = smooth(301, 199).convert("L")
    found = ImageTransform(96)(open_image(gray))
    assert torch.equal(found, reference(96)(gray))
    found = TRANSFORMERS["Siglip"](open_image(gray))
    assert torch.equal(
        found, processor("SiglipImageProcessorPil")(gray, return_tensors="pt")["pixel_values"][0]
    )


def test_the_two_centres_are_half_a_pixel_apart():
    """An odd number of columns is over: one more is cut on the left, or on the right."""
    columns = np.arange(7, dtype=np.uint8)[None, :, None].repeat(4, 0).repeat(3, 2)  # [4, 7, 3]
    kept = {
        resize: ImageTransform(4, resize=resize).resized(Image.fromarray(columns)) for resize in RESIZES[:2]
    }
    assert [np.asarray(kept[resize])[0, :, 0].tolist() for resize in RESIZES[:2]] == [
        [2, 3, 4, 5],
        [1, 2, 3, 4],
    ]


@pytest.mark.parametrize("resize", RESIZES)
def test_read_is_open_and_transform(resize, draw, tmp_path):
    path = draw(tmp_path / "a.jpg", 1, (640, 480))
    ours = ImageTransform(32, resize=resize)
    for source in (path, path.read_bytes(), open_image(path), np.asarray(open_image(path))):
        assert torch.equal(ours.read(source), ours(open_image(source)))
    with pytest.raises(ImageError, match="got text"):
        ours.read(b"no picture")


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_draft_is_nearly_the_same(resize, orientation):
    """At sides that no scale divides; the drift was measured, in levels of 255."""
    for seed, (width, height) in enumerate([(1601, 1203), (643, 481), (911, 2503), (3999, 700)]):
        jpeg = saved(smooth(width, height, seed), "JPEG", quality=90, exif=exif(orientation))
        exact = ImageTransform(48, (0, 0, 0), (1, 1, 1), resize)
        draft = dataclasses.replace(exact, draft=True)
        drift = (255 * (exact.read(jpeg) - draft.read(jpeg))).abs()
        assert 0 < drift.max() <= 3, (width, height)
        assert drift.mean() <= 0.5, (width, height)


def test_a_draft_of_what_is_small_or_no_jpeg_is_exact():
    exact, draft = ImageTransform(48), ImageTransform(48, draft=True)
    for picture in (saved(smooth(191, 300), "JPEG"), saved(smooth(900, 800), "PNG"), smooth(900, 800)):
        assert torch.equal(exact.read(picture), draft.read(picture))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 40), st.sampled_from(["bicubic", "bilinear"]))
@example(57, 25, 37, "bicubic")
def test_a_strip_without_the_picture_in_between(width, height, side, interpolation):
    """Where the resized picture would be huge only its middle is made: the same but for rounding."""
    x, y = np.arange(width) / width, np.arange(height) / height
    wave = 128 + 50 * np.sin(9 * x) + 50 * np.cos(7 * y[:, None])  # [H, W]
    picture = Image.fromarray(np.stack([wave, 255 - wave, wave / 2], -1).astype(np.uint8))
    ours = ImageTransform(side, interpolation=interpolation)
    expected = np.asarray(ours.resized(picture)).astype(int)
    largest, transform.LARGEST = transform.LARGEST, 0
    try:
        found = np.asarray(ours.resized(picture))
    finally:
        transform.LARGEST = largest
    assert np.abs(found - expected).max() <= 2  # rounded twice, after each direction


def test_long_strips():
    """Without the memory that all of the resized picture would take: 100 GB for the last."""
    for size in ((1, 5000), (5000, 1), (3, 60000), (1, 2_000_000)):
        picture = Image.new("RGB", size, (255, 0, 0))
        for resize in THEIRS:
            found = ImageTransform(224, (0, 0, 0), (1, 1, 1), resize)(picture)
            assert found[:, 111, 111].tolist() == [1, 0, 0]


def test_the_picture_stays_as_it_was():
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    before = picture.tobytes()
    for resize in THEIRS:
        ImageTransform(8, resize=resize)(picture).zero_()
    assert picture.tobytes() == before


def test_padding_is_black_and_around():
    found = ImageTransform(8, (0, 0, 0), (1, 1, 1), "pad")(Image.new("RGB", (8, 4), (255, 255, 255)))
    assert found.sum() == 3 * 8 * 4
    assert found[:, 2:6].min() == 1


def test_what_is_not_rgb_is_refused():
    for picture, got in ((Image.new("L", (4, 4)), "L"), (np.zeros((4, 4, 3)), "ndarray"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"expected an RGB image, as open_image gives it, got {got}"):
            ImageTransform(4)(picture)


def test_tables():
    ours = ImageTransform(96, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "pad", "bilinear")
    table = json.loads(json.dumps(ours.to_dict()))
    assert ImageTransform.from_dict(table) == ours
    assert ImageTransform.from_dict({"image_size": 32}) == ImageTransform(32)
    assert ImageTransform(32).mean == OPENAI_MEAN
    assert ImageTransform(32).std == OPENAI_STD
    assert ImageTransform(32, [0.5, 0.5, 0.5]) == ImageTransform(32, (0.5, 0.5, 0.5))  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ours.image_size = 7


def test_a_draft_is_how_it_is_run_and_not_what_it_is():
    ours = ImageTransform(32, draft=True)
    assert ours == ImageTransform(32)
    assert ours.to_dict() == ImageTransform(32).to_dict()
    assert "draft" not in ours.to_dict()
    with pytest.raises(ValueError, match="expected what it is, got 'draft'"):
        ImageTransform.from_dict({"image_size": 32, "draft": True})


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
def test_tables_that_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        ImageTransform.from_dict({**ImageTransform(32).to_dict(), **change})
    with pytest.raises(ValueError, match="expected"):
        ImageTransform.from_dict([])
    with pytest.raises(ValueError, match="image_size"):
        ImageTransform.from_dict({})
