"""A thousand damaged files: each is decoded or raises ImageError."""

import random

import numpy as np
import pytest
from PIL import Image

from multimodal.preprocess import ImageError, decode_all, open_image, resolve
from multimodal.preprocess.images.decode import open_reduced

from .files import exif, saved

FILES = 1000
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # about damaged metadata


def whole_files() -> list[bytes]:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (18, 24, 3), dtype=np.uint8))
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    return [
        saved(image, "JPEG"),
        saved(image, "JPEG", progressive=True, exif=exif(6)),
        saved(image.convert("CMYK"), "JPEG"),
        saved(image, "MPO", **frames),
        saved(image, "PNG", exif=exif(3)),
        saved(image.convert("P"), "PNG", transparency=bytes(range(256))),
        saved(image, "PNG", **frames),
        saved(image.convert("L").convert("I;16"), "PNG"),
        saved(image, "WEBP"),
        saved(image, "WEBP", lossless=True, **frames),
        saved(image, "GIF", **frames),
        saved(image, "BMP"),
    ]


def mutated(whole: list[bytes], seed: int) -> bytes:
    """One to three changes: random bytes, a truncated end, a piece removed, a piece of another file inserted."""
    rng = random.Random(seed)
    data = bytearray(whole[seed % len(whole)])
    for _ in range(rng.randint(1, 3)):
        if not data:
            break
        start, kind = rng.randrange(len(data)), rng.randrange(5)
        if kind == 0:
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 1:  # extreme values in the header
            for _ in range(rng.randint(1, 6)):
                data[rng.randrange(min(len(data), 120))] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del data[start:]
        elif kind == 3:
            del data[start : start + rng.randint(1, 200)]
        else:
            other = rng.choice(whole)
            place = rng.randrange(len(other))
            data[start:start] = other[place : place + rng.randint(1, 200)]
    return bytes(data)


def test_every_file_is_decoded_or_refused():
    whole = whole_files()
    assert all(open_image(data).size in ((24, 18), (18, 24)) for data in whole)
    good, reasons = 0, set()
    for seed in range(FILES):
        try:
            image = open_image(mutated(whole, seed))
        except ImageError as error:
            reason = str(error)
            assert 5 < len(reason) < 250, seed
            assert reason.isprintable(), seed
            reasons.add(reason)
            with pytest.raises(ImageError):
                open_reduced(mutated(whole, seed), 4)
        else:
            assert type(image) is Image.Image, seed
            assert image.mode == "RGB", seed
            assert min(image.size) > 0, seed
            assert open_reduced(mutated(whole, seed), 4).size == image.size, seed
            good += 1
    assert 50 < good < 950  # some changes are harmless
    assert len(reasons) > 20


def test_damaged_files_in_a_folder(tmp_path):
    """Rejected files are named, and the others follow in order."""
    whole = whole_files()
    for seed in range(FILES // 4):
        (tmp_path / f"{seed:04}.jpg").write_bytes(mutated(whole, seed))
    sources = resolve(tmp_path)
    results = list(decode_all(sources))
    assert [place for place, _ in results] == list(range(FILES // 4))
    for place, result in results:
        if isinstance(result, Image.Image):
            assert result.mode == "RGB"
        else:
            assert result.name == str(tmp_path / f"{place:04}.jpg")
            assert result.reason
