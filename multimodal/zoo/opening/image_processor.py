"""The image processors of transformers, read from a folder: all that they do is expressed, or refused."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.preprocess import OPENAI_MEAN, OPENAI_STD, ImageTransform
from multimodal.zoo.opening.foreign import read_json

RESAMPLES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, and our names
HALF = (0.5, 0.5, 0.5)
# What the files leave out: the defaults of the three classes.
COMMON = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": OPENAI_MEAN,
    "image_std": OPENAI_STD,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": COMMON | {"do_center_crop": True, "size": {"shortest_edge": 224}, "crop_size": 224},
    "Siglip": COMMON | {"image_mean": HALF, "image_std": HALF, "size": 224},
    "Blip": COMMON | {"size": 384},
}
KINDS = {"clip": "CLIP", "siglip": "Siglip", "blip": "Blip"}
# Names of classes; what is done to every picture anyway, or not at all where it is None; and padding to the
# largest picture of a batch, which BLIP's files ask for: all are of one size.
HARMLESS = {
    *("processor_class", "image_processor_type", "feature_extractor_type", "do_convert_rgb", "data_format"),
    *("input_data_format", "device", "return_tensors", "disable_grouping", "default_to_square", "backend"),
    *("_valid_processor_keys", "auto_map", "image_seq_length"),
    *("do_pad", "size_divisor"),
}


def transformers_transform(folder: Path, kind: str, image_size: int) -> ImageTransform:
    """That of processor_config.json or preprocessor_config.json; where neither is there, what the class of this
    kind of model does, at the size that the model has.

    Raises ValueError for what an `ImageTransform` cannot do, and for two files that say different things.
    """
    path, given = _table(folder)
    name = str(given.get("image_processor_type") or given.get("feature_extractor_type") or KINDS[kind])
    known = [known for known in DEFAULTS if name in _names(known)]
    if not known:
        raise ValueError(
            f"{path}: expected an image processor of {sorted(DEFAULTS)}, got image_processor_type {name!r}"
        )
    if not path.is_file():
        given = {"size": image_size, "crop_size": image_size}
    table = DEFAULTS[known[0]] | {key: value for key, value in given.items() if value is not None}
    unknown = sorted(set(table) - HARMLESS - set(COMMON) - {"size", "crop_size"})
    if unknown:
        raise ValueError(f"{path}: expected {sorted(DEFAULTS['CLIP'])}, got {unknown}")
    for key, expected in (
        ("do_resize", True),
        ("do_rescale", True),
    ):
        if table[key] is not expected:
            raise ValueError(f"{path}: {key}: expected {expected}, got {table[key]!r}")
    factor, resample = table["rescale_factor"], table["resample"]
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise ValueError(f"{path}: rescale_factor: expected 1 / 255, got {factor!r}")
    if not isinstance(resample, int) or resample not in RESAMPLES:
        raise ValueError(f"{path}: resample: expected one of {RESAMPLES}, got {resample!r}")
    size, resize = _size(path, table, known[0])
    mean, std = table["image_mean"], table["image_std"]
    if not table["do_normalize"]:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return ImageTransform(size, mean, std, resize, RESAMPLES[resample])


def _table(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Where what is said of pictures stands, and what is."""
    old, new = folder / "preprocessor_config.json", folder / "processor_config.json"
    whole = read_json(new, {}).get("image_processor")
    if not isinstance(whole, dict):
        return old, read_json(old, {})
    if old.is_file() and _said(read_json(old)) != _said(whole):
        raise ValueError(
            f"{folder}: expected {new.name} to say the same of pictures as {old.name}, got another"
        )
    return new, whole


def _said(table: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in table.items() if key not in HARMLESS}, sort_keys=True)


def _names(kind: str) -> set[str]:
    return {kind} | {
        f"{kind}{what}{backend}"
        for what in ("ImageProcessor", "FeatureExtractor")
        for backend in ("", "Fast", "Pil")
    }


def _size(path: Path, table: Mapping[str, Any], kind: str) -> tuple[int, str]:
    """The side of the result, and how a picture gets it."""
    size: Any = table["size"]
    if isinstance(size, int):  # as early files have it; of CLIP's it is the shorter side
        size = {"shortest_edge": size} if kind == "CLIP" else {"height": size, "width": size}
    if not isinstance(size, dict) or set(size) not in ({"shortest_edge"}, {"height", "width"}):
        raise ValueError(f"{path}: size: expected a shortest_edge, or height and width, got {size!r}")
    if len(set(size.values())) != 1:
        raise ValueError(f"{path}: size: expected a square, got {size}")
    [side] = set(size.values())
    shortest = "shortest_edge" in size
    if not table["do_center_crop"]:
        if shortest:
            raise ValueError(f"{path}: do_center_crop: expected True for a size of {size}, got False")
        return side, "squash"
    crop: Any = table.get("crop_size", size)
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if crop != {"height": side, "width": side}:
        raise ValueError(f"{path}: crop_size: expected {side}, as the size, got {crop}")
    return side, "crop_floor" if shortest else "squash"
