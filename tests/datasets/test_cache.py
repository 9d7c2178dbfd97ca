import io

import numpy as np
import pytest
import torch
from PIL import Image

from multimodal.datasets import open_source
from multimodal.datasets.cache import load_inputs
from multimodal.preprocess import Augment, ImageTransform


def load_images(source, size, resize="crop"):
    inputs = {"image": ImageTransform(size, resize=resize)}
    return load_inputs(source, inputs, size, Augment(), progress=False)["image"].items


@pytest.mark.parametrize(
    "transform",
    [
        ImageTransform(16, (0.5,) * 3, (0.5,) * 3, "squash", "bilinear"),
        ImageTransform(16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "pad"),
        ImageTransform(16, resize="pad", interpolation="bilinear"),
        ImageTransform(16, resize="crop_floor", interpolation="bilinear"),
        ImageTransform(16, resize="crop_floor"),
        ImageTransform(16, (0, 0, 0), (1, 1, 1), "squash"),
        ImageTransform(16),
    ],
)
@pytest.mark.parametrize("max_bytes", [10**6, 0])
def test_training_sees_what_inference_sees(tmp_path, noise, transform, max_bytes):
    (tmp_path / "cat").mkdir()
    for i, shape in enumerate([(33, 50), (50, 33), (16, 16), (21, 90)]):
        (tmp_path / f"cat/{i}.png").write_bytes(png(noise(i, *shape)))
    source = open_source(tmp_path)
    cache = load_inputs(source, {"image": transform}, 16, Augment(1.0, flip=False), False, max_bytes)["image"]
    pixels = torch.stack([cache.item(row, 0, 16) for row in range(4)])
    expected = torch.stack([transform.read(entry.inputs["image"]) for entry in source.entries])
    torch.testing.assert_close(transform.normalize(pixels), expected)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def noise():
    return lambda seed, *shape: np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def test_rows_belong_to_samples_and_unreadable_ones_are_named(shard, noise):
    members = []
    for i in range(70):  # more than wait in the pool at once
        image = png(noise(i, 8, 8)) if i % 10 != 3 else b"\xff\xd8 no image"
        members += [(f"{i:02d}.png", image), (f"{i:02d}.txt", f"image {i}".encode())]
    source = open_source(shard(members))
    images = load_images(source, 8)
    assert images.shape == (63, 3, 8, 8)
    assert images.dtype == torch.uint8
    for row, sample in zip(images, source, strict=True):
        number = int(sample.name[-2:])
        assert torch.equal(row.permute(1, 2, 0), torch.from_numpy(noise(number, 8, 8)))
    assert [item.name[-2:] for item in source.rejected] == ["03", "13", "23", "33", "43", "53", "63"]
    assert all("got a JPEG whose header is damaged" in item.reason for item in source.rejected)


@pytest.mark.parametrize("resize", ["crop", "squash"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 40), (41, 16), (9, 100)])
def test_two_ramps_made_square(tmp_path, height, width, resize):
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 255 * y / height, 0 * x], -1).round().astype(np.uint8)  # two ramps
    (tmp_path / "ramp").mkdir()
    (tmp_path / "ramp/a.png").write_bytes(png(pixels))
    [image] = load_images(open_source(tmp_path), 8, resize)
    seen_width, seen_height = (width, height) if resize == "squash" else [min(height, width)] * 2
    middles = (np.arange(8) + 0.5) / 8  # of the eight pixels, as a part of what is seen
    across = 255 * (middles * seen_width - 0.5 + (width - seen_width) / 2) / width
    down = 255 * (middles * seen_height - 0.5 + (height - seen_height) / 2) / height
    expected = np.stack(np.broadcast_arrays(across, down[:, None], 0))
    inner = slice(2, -2)  # at the border a bicubic filter has only one side
    difference = np.abs(image.numpy() - expected)
    assert difference[:, inner, inner].max() <= 1.5
    assert difference.max() < 12


def test_a_very_thin_image_costs_no_memory(tmp_path):
    (tmp_path / "line").mkdir()
    Image.new("RGB", (30_000, 1), (200, 10, 10)).save(tmp_path / "line/a.png")
    [image] = load_images(open_source(tmp_path), 64)
    assert image.shape == (3, 64, 64)
    assert image[:, 5, 5].tolist() == [200, 10, 10]
