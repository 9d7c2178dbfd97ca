import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from multimodal.datasets import draw_shapes, open_source
from multimodal.datasets.shapes import COLORS, SHAPES, draw, shape_mask


def test_the_same_numbers_give_the_same_bytes_and_more_only_adds(tmp_path):
    first = draw_shapes(tmp_path / "a", train=12, val=3, progress=False)
    again = draw_shapes(tmp_path / "b", train=12, val=3, progress=False)
    more = draw_shapes(tmp_path / "c", train=20, val=3, progress=False)
    other = draw_shapes(tmp_path / "d", train=12, val=3, seed=1, progress=False)
    shards = [(made.folder / "train/000.tar").read_bytes() for made in (first, again, more, other)]
    assert shards[0] == shards[1] != shards[3]
    assert shards[2].startswith(shards[0].rstrip(b"\0"))
    assert (first.folder / "val/000.tar").read_bytes() == (more.folder / "val/000.tar").read_bytes()
    assert first.bytes == sum(path.stat().st_size for path in first.folder.rglob("*.tar"))


def test_captions_say_what_is_drawn(tmp_path):
    made = draw_shapes(tmp_path, train=60, val=5, progress=False)
    source = open_source(made.folder / "train")
    assert (len(source), source.rejected) == (60, [])
    labelled = 0
    for sample in source:
        assert len(set(sample.captions)) == 5
        named = {word for text in sample.captions for word in text.replace(",", "").split()}
        shapes, colors = named & set(SHAPES), named & set(COLORS)
        assert 1 <= len(shapes) <= 2
        assert 1 <= len(colors) <= 2
        if sample.label is not None:
            labelled += 1
            assert set(sample.label.split()) == colors | shapes
            pixels = np.asarray(Image.open(io.BytesIO(sample.inputs["image"])).convert("RGB"), float)
            [color] = colors
            distance = np.abs(pixels - COLORS[color]).max(-1)
            assert (distance < 45).sum() >= 25  # pixels of the colour that the label says
    assert 15 <= labelled <= 45


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_lies_within_its_circle_and_moves_with_it(shape):
    mask = shape_mask(shape, np.array([32.0, 32.0]), 12.0, 0.3)
    assert mask.shape == (64, 64)
    assert 0 <= mask.min() <= mask.max() <= 1
    y, x = np.mgrid[:64, :64] + 0.5
    outside = np.hypot(x - 32, y - 32) > 12.0 * 1.25 + 1
    assert mask[outside].max() == 0
    assert 0.1 * np.pi * 144 < mask.sum() <= 1.02 * np.pi * 144
    moved = shape_mask(shape, np.array([40.0, 25.0]), 12.0, 0.3)
    assert np.abs(np.roll(mask, (-7, 8), (0, 1)) - moved).max() < 0.3
    np.testing.assert_allclose(mask.sum(), moved.sum(), rtol=0.02)


def test_a_disc_has_the_area_of_a_disc():
    circle, ring = (shape_mask(name, np.array([32.0, 32.0]), 14.0, 0.0).sum() for name in ("circle", "ring"))
    assert circle == pytest.approx(np.pi * 14**2, rel=0.03)
    assert ring == pytest.approx(np.pi * 14**2 * (1 - 0.55**2), rel=0.04)


def test_a_image_is_a_jpeg_of_64_pixels_and_its_record_is_json(tmp_path):
    image, record = draw(np.random.default_rng(0))
    image = Image.open(io.BytesIO(image))
    assert (image.format, image.size, image.mode) == ("JPEG", (64, 64), "RGB")
    draw_shapes(tmp_path, train=1, val=1, progress=False)
    with tarfile.open(tmp_path / "train/000.tar") as tar:
        assert tar.getnames() == ["000000.jpg", "000000.json"]
        assert set(json.load(tar.extractfile("000000.json"))) <= {"captions", "label"}
    assert set(record) <= {"captions", "label"}


def test_wrong_numbers():
    with pytest.raises(ValueError, match="train: expected at least 1 image, got 0"):
        draw_shapes("never", train=0)
    with pytest.raises(ValueError, match="seed: expected 0 or more, got -1"):
        draw_shapes("never", seed=-1)
    with pytest.raises(ValueError, match=r"expected one of circle, .*, got 'blob'"):
        shape_mask("blob", np.zeros(2), 1.0, 0.0)
