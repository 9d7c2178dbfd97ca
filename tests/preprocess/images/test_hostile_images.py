"""A thousand damaged files: each gives a picture or a reason, and nothing else."""

import random
import warnings

import numpy as np
import pytest
from PIL import Image

from multimodal.preprocess import ImageError, decode_all, images, open_image, resolve

from .files import exif, saved

FILES = 1000


def whole_files() -> list[bytes]:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (18, 24, 3), dtype=np.uint8))
    frames = {"save_all": True, "append_images": [picture.rotate(90)]}
    return [
        saved(picture, "JPEG"),
        saved(picture, "JPEG", progressive=True, exif=exif(6)),
        saved(picture.convert("CMYK"), "JPEG"),
        saved(picture, "MPO", **frames),
        saved(picture, "PNG", exif=exif(3)),
        saved(picture.convert("P"), "PNG", transparency=bytes(range(256))),
        saved(picture, "PNG", **frames),
        saved(picture.convert("L").convert("I;16"), "PNG"),
        saved(picture, "WEBP"),
        saved(picture, "WEBP", lossless=True, **frames),
        saved(picture, "GIF", **frames),
        saved(picture, "BMP"),
    ]


def mutated(whole: list[bytes], seed: int) -> bytes:
    """Bytes changed, the end or a piece cut out, a piece of another file put in: one to three times."""
    rng = random.Random(seed)
    data = bytearray(whole[seed % len(whole)])
    for _ in range(rng.randint(1, 3)):
        if not data:
            break
        start, kind = rng.randrange(len(data)), rng.randrange(5)
        if kind == 0:
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 1:  # in the header, with the values at the ends of a range
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


def test_a_picture_or_a_reason():
    whole = whole_files()
    assert all(open_image(data).size in ((24, 18), (18, 24)) for data in whole)
    good, reasons = 0, set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(FILES):
            try:
                image = open_image(mutated(whole, seed))
            except ImageError as error:
                reason = str(error)
                assert 5 < len(reason) < 250, seed
                assert reason.isprintable(), seed
                reasons.add(reason)
                with pytest.raises(ImageError):
                    images.open_reduced(mutated(whole, seed), 4)
            else:
                assert type(image) is Image.Image, seed
                assert image.mode == "RGB", seed
                assert min(image.size) > 0, seed
                assert images.open_reduced(mutated(whole, seed), 4).size == image.size, seed
                good += 1
    assert caught == []
    assert 50 < good < 950  # some damage does no harm
    assert len(reasons) > 20


def test_all_of_them_in_a_folder(tmp_path):
    """Each reject is named, and the rest go on in order."""
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
