"""The photographs in the scikit-image wheel: examples for a demo and a model card."""

import importlib.util
from pathlib import Path

from multimodal.preprocess import Sources

# All of them except drawings, cell textures and scans, each with its label among `LABELS`.
PHOTOS = {
    "astronaut.png": "astronaut",
    "chelsea.png": "cat",
    "coffee.png": "cup of coffee",
    "rocket.jpg": "rocket",
    "motorcycle_left.png": "motorcycle",
    "camera.png": "photographer",
    "hubble_deep_field.jpg": "stars",
    "coins.png": "coins",
    "moon.png": "moon",
    "brick.png": "brick wall",
    "grass.png": "grass",
    "gravel.png": "gravel",
}
LABELS = (
    *("cat", "dog", "horse", "bird", "astronaut", "photographer", "child", "crowd of people"),
    *("cup of coffee", "pizza", "motorcycle", "bicycle", "car", "rocket", "airplane", "ship"),
    *("coins", "stars", "moon", "brick wall", "grass", "gravel", "beach", "forest"),
)


def sample_photos() -> Sources:
    """The photographs, found without importing scikit-image. FileNotFoundError if it is not installed."""
    spec = importlib.util.find_spec("skimage")
    folders = [] if spec is None else [Path(each) / "data" for each in spec.submodule_search_locations or ()]
    paths = [folder / name for folder in folders for name in PHOTOS if (folder / name).is_file()]
    if not paths:
        raise FileNotFoundError(
            "photos: expected the photographs of scikit-image, which is not installed: "
            "pip install scikit-image, or pass your own with --photos FOLDER"
        )
    return Sources(paths, [path.name for path in paths], False, False)
