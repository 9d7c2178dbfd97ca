"""Image processors in the files of transformers: everything that they do is expressed as a transform, or refused."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.preprocess import ImageTransform
from multimodal.zoo.weights import CheckpointError, read_json

TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
DEFAULTS: dict[str, dict[str, Any]] = TABLE["defaults"]  # of the three classes, for keys that a file leaves out
# Keys without an effect on the result: names of classes, options that always apply, and the padding of BLIP's first
# files to the largest image of a batch, in which all images have one size
HARMLESS = set(TABLE["harmless"])
RESAMPLES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, and our names
CLASSES = re.compile(
    r"(?:Chinese)?(CLIP|Siglip|Blip)(?:(?:ImageProcessor|FeatureExtractor)(?:Fast|Pil)?)?"
)  # in transformers
KINDS = {"clip": "CLIP", "chinese_clip": "CLIP", "siglip": "Siglip", "blip": "Blip"}


def read_transform(folder: Path, kind: str, image_size: int) -> ImageTransform:
    """The transform of processor_config.json or preprocessor_config.json.

    Without such a file, what the class for this kind of model does by default, at the image size of the model.
    Raises CheckpointError for a step that `ImageTransform` does not have, and for two files that differ.
    """
    old, new = folder / "preprocessor_config.json", folder / "processor_config.json"
    nested = read_json(new, {}).get("image_processor")
    path, given = (new, nested) if isinstance(nested, dict) else (old, read_json(old, {}))
    if path == new and old.is_file() and _effective(read_json(old)) != _effective(given):
        raise CheckpointError(
            f"{folder}: expected the same image processor in {new.name} and {old.name}, got two different ones"
        )
    name = str(given.get("image_processor_type") or given.get("feature_extractor_type") or KINDS[kind])
    known = CLASSES.fullmatch(name)
    if known is None:
        raise CheckpointError(
            f"{path}: expected an image processor of {sorted(DEFAULTS)}, got image_processor_type {name!r}"
        )
    if not path.is_file():
        given = {"size": image_size, "crop_size": image_size}
    table = DEFAULTS[known[1]] | _effective(given)
    unknown = sorted(set(table) - set(DEFAULTS["CLIP"]))
    if unknown:
        raise CheckpointError(f"{path}: expected {sorted(DEFAULTS['CLIP'])}, got {unknown}")
    for key in ("do_resize", "do_rescale"):
        if table[key] is not True:
            raise CheckpointError(f"{path}: {key}: expected True, got {table[key]!r}")
    factor, resample = table["rescale_factor"], table["resample"]
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise CheckpointError(f"{path}: rescale_factor: expected 1 / 255, got {factor!r}")
    if not isinstance(resample, int) or resample not in RESAMPLES:
        raise CheckpointError(f"{path}: resample: expected one of {RESAMPLES}, got {resample!r}")
    size, resize = _size(path, table, known[1])
    mean, std = table["image_mean"], table["image_std"]
    if not table["do_normalize"]:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return ImageTransform(size, mean, std, resize, RESAMPLES[resample])


def _effective(table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with an effect."""
    return {key: value for key, value in table.items() if key not in HARMLESS and value is not None}


def _size(path: Path, table: Mapping[str, Any], kind: str) -> tuple[int, str]:
    """`image_size` and `resize` of the transform."""
    size: Any = table["size"]
    if isinstance(size, int):  # in early files; the shorter side for CLIP
        size = {"shortest_edge": size} if kind == "CLIP" else {"height": size, "width": size}
    if not isinstance(size, dict) or set(size) not in ({"shortest_edge"}, {"height", "width"}):
        raise CheckpointError(f"{path}: size: expected a shortest_edge, or height and width, got {size!r}")
    side, *other = set(size.values())
    if other:
        raise CheckpointError(f"{path}: size: expected a square, got {size}")
    shortest = "shortest_edge" in size
    if shortest and not table["do_center_crop"]:
        raise CheckpointError(f"{path}: do_center_crop: expected True for a size of {size}, got False")
    crop: Any = table.get("crop_size", size)
    if table["do_center_crop"] and crop not in (side, {"height": side, "width": side}):
        raise CheckpointError(f"{path}: crop_size: expected {side} as in size, got {crop}")
    return side, "crop_floor" if shortest else "squash"
