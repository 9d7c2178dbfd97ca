"""The transform that is read from a folder of transformers gives the same pixels as the processor saved there."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from multimodal.zoo.formats.image_processor import read_transform


def odd_images():
    rng = np.random.default_rng(0)
    for size in [(1, 1), (31, 200), (640, 427), (33, 32), *rng.integers(1, 260, (12, 2)).tolist()]:
        yield Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


PROCESSORS = {
    "clip": ("clip", "CLIP", {}),
    "clip, other sizes": ("clip", "CLIP", {"size": {"shortest_edge": 47}, "crop_size": 47}),
    "clip, squashed": ("clip", "CLIP", {"size": {"height": 40, "width": 40}, "crop_size": 40}),
    "clip, no crop": ("clip", "CLIP", {"size": {"height": 40, "width": 40}, "do_center_crop": False}),
    "clip, bilinear": ("clip", "CLIP", {"resample": 2}),
    "siglip": ("siglip", "Siglip", {}),
    "siglip, its own constants": ("siglip", "Siglip", {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2] * 3}),
    "siglip, plain": ("siglip", "Siglip", {"do_normalize": False}),
    "blip": ("blip", "Blip", {}),
    "blip, first files": ("blip", "Blip", {"do_pad": True, "size_divisor": 32}),
    "blip, bilinear": ("blip", "Blip", {"resample": 2, "size": {"height": 96, "width": 96}}),
    "blip with the processor of clip": ("blip", "CLIP", {}),
}


@pytest.mark.parametrize("name", list(PROCESSORS))
@pytest.mark.parametrize("nested", [False, True], ids=["preprocessor_config", "processor_config"])
def test_pixels_match_the_processor(name, nested, tmp_path):
    kind, prefix, options = PROCESSORS[name]
    processor = getattr(transformers, f"{prefix}ImageProcessorPil")(**options)
    processor.save_pretrained(tmp_path)
    if nested:
        path = tmp_path / "preprocessor_config.json"
        table = {"image_processor": json.loads(path.read_text()), "processor_class": f"{prefix}Processor"}
        (tmp_path / "processor_config.json").write_text(json.dumps(table))
        path.unlink()
    ours = read_transform(tmp_path, kind, 1)  # the size is in the file
    for image in odd_images():
        expected = processor(image, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(ours(image), expected), image.size


@pytest.mark.parametrize(("kind", "prefix"), [("clip", "CLIP"), ("siglip", "Siglip"), ("blip", "Blip")])
def test_missing_keys_are_the_defaults_of_the_class(kind, prefix, tmp_path):
    processor = getattr(transformers, f"{prefix}ImageProcessorPil")()
    size = 384 if kind == "blip" else 224
    image = list(odd_images())[2]
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    for table in (None, {}, {"feature_extractor_type": f"{prefix}FeatureExtractor"}):
        if table is not None:
            (tmp_path / "preprocessor_config.json").write_text(json.dumps(table))
        assert torch.equal(read_transform(tmp_path, kind, size)(image), expected)


def test_an_early_file(tmp_path):
    table = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 50, "crop_size": 50, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(table | {"do_normalize": True}))
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 50}, crop_size=50)
    for image in odd_images():
        expected = processor(image, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(read_transform(tmp_path, "clip", 50)(image), expected)


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip"])
def test_without_a_file_the_size_is_the_model_s(kind, tmp_path):
    assert read_transform(tmp_path, kind, 336).image_size == 336
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert read_transform(tmp_path, kind, 336).image_size != 336
