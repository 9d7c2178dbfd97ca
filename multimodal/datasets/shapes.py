"""A small generated data set, coloured shapes with captions, to try everything without a download."""

import io
import json
import math
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from multimodal.files import atomic_write

SIDE = 64
FINE = 4  # shapes are drawn this much larger and scaled down, for soft edges
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")
# RGB colours, radii in pixels, places as fractions of the side (x, y), corners in a unit circle (x, y down), captions
DATA = json.loads(Path(__file__).with_name("shapes.json").read_text(encoding="utf-8"))
COLORS, BACKGROUNDS, RADII, PLACES = (DATA[key] for key in ("colors", "backgrounds", "radii", "places"))
RELATIONS, AXES = DATA["relations"], DATA["axes"]
_STAR = np.arange(10) * math.pi / 5 - math.pi / 2  # angles
_HEART = np.linspace(0, 2 * math.pi, 48, endpoint=False)
POLYGONS = {name: np.array(corners) for name, corners in DATA["polygons"].items()} | {  # [P, 2]
    "star": np.where(np.arange(10) % 2, 0.45, 1.05)[:, None] * np.stack([np.cos(_STAR), np.sin(_STAR)], 1),
    "heart": np.stack([
        16 * np.sin(_HEART) ** 3,
        -13 * np.cos(_HEART) + 5 * np.cos(2 * _HEART) + 2 * np.cos(3 * _HEART) + np.cos(4 * _HEART),
    ], 1) / 16,
}  # fmt: skip


@dataclass(frozen=True)
class DrawnShapes:
    """The data set that `draw_shapes` has written."""

    folder: Path
    train: int
    val: int
    bytes: int

    def __str__(self) -> str:
        counts = f"{self.train} training and {self.val} validation images of coloured shapes"
        return f"{counts} in {self.folder} (train/000.tar and val/000.tar, {self.bytes / 1e6:.1f} MB)"

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder)}


class Item(NamedTuple):
    """One drawn shape."""

    size: str
    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.color} {self.shape}"


def draw_shapes(
    out: str | Path, train: int = 2000, val: int = 200, seed: int = 0, progress: bool = True
) -> DrawnShapes:
    """Write `out/train/000.tar` and `out/val/000.tar`: webdataset shards of 64 x 64 JPEGs with captions.

    An image has two shapes, or one and a `label` with its colour and shape, such as "red circle". Some
    captions say left and right: do not flip these images in training. The same counts and seed give the same
    bytes, and a larger set begins with the smaller one.
    """
    for name, count in (("train", train), ("val", val)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1 image, got {count}")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    out = Path(out)
    size = 0
    with tqdm(total=train + val, desc="drawing", unit=" images", disable=not progress) as bar:
        for split, (name, count) in enumerate((("train", train), ("val", val))):
            path = out / name / "000.tar"
            with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for i in range(count):
                    image, record = draw(np.random.default_rng([seed, split, i]))
                    for suffix, data in (("jpg", image), ("json", json.dumps(record).encode())):
                        member = tarfile.TarInfo(f"{i:06d}.{suffix}")  # its times and owners are zero
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
                    bar.update()
            size += path.stat().st_size
    return DrawnShapes(out, train, val, size)


def draw(rng: np.random.Generator) -> tuple[bytes, dict[str, Any]]:
    """One image as JPEG bytes and its record: `captions` and, with one shape, `label`."""
    from PIL import Image

    background = _pick(rng, BACKGROUNDS)
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 14)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    slope = strength * (x * math.cos(angle) + y * math.sin(angle))  # a gradient in a random direction
    canvas = np.array(BACKGROUNDS[background]) + rng.uniform(-8, 8) + slope[..., None]  # [SIDE, SIDE, 3]
    items = [first := _item(rng)]
    facts: dict[str, Any] = {"first": first, "an_first": _an(first), "background": background}
    record: dict[str, Any] = {}
    if rng.random() < 0.5:
        place = _pick(rng, PLACES)
        centres = [np.array(PLACES[place]) * SIDE]
        record["captions"] = [text.format(**facts, place=place) for text in DATA["one_shape"]]
        record["label"] = f"{first.color} {first.shape}"
    else:
        other = first
        while other[1:] == first[1:]:
            other = _item(rng)
        items.append(other)
        relation = _pick(rng, RELATIONS)
        offset = np.array(AXES[relation]) * 0.235 * SIDE
        centres = [SIDE / 2 + offset, SIDE / 2 - offset]
        facts |= {"other": other, "an_other": _an(other), "relation": relation, "opposite": RELATIONS[relation]}
        record["captions"] = [text.format(**facts) for text in DATA["two_shapes"]]
    for item, centre in zip(items, centres, strict=True):
        radius = rng.uniform(*RADII[item.size])
        mask = shape_mask(item.shape, centre + rng.uniform(-1, 1, 2), radius, rng.uniform(-0.2, 0.2))
        color = np.clip(np.array(COLORS[item.color]) + rng.uniform(-10, 10, 3), 0, 255)
        canvas += mask[..., None] * (color - canvas)
    canvas += rng.normal(0, rng.uniform(0, 7), canvas.shape)  # noise, whose strength varies
    buffer = io.BytesIO()
    Image.fromarray(np.clip(canvas.round(), 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue(), record


def shape_mask(shape: str, centre: np.ndarray, radius: float, turn: float) -> np.ndarray:
    """The share of each pixel that the shape covers: float [SIDE, SIDE] in [0, 1].

    `centre` is (x, y) and `radius` in pixels, `turn` in radians. Raises ValueError for an unknown shape.
    """
    from PIL import Image, ImageDraw

    if shape not in SHAPES:
        raise ValueError(f"shape: expected one of {', '.join(SHAPES)}, got {shape!r}")
    image = Image.new("L", (SIDE * FINE, SIDE * FINE))
    pen = ImageDraw.Draw(image)
    middle = np.asarray(centre) * FINE
    radius *= FINE
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    if shape in ("circle", "ring", "moon"):
        pen.circle(tuple(middle), radius, fill=255)
    else:
        pen.polygon([(x, y) for x, y in middle + radius * POLYGONS[shape] @ rotation.T], fill=255)
    if shape == "ring":
        pen.circle(tuple(middle), radius * 0.55, fill=0)
    if shape == "moon":
        pen.circle(tuple(middle + radius * 0.5 * rotation[:, 0]), radius * 0.85, fill=0)
    return np.asarray(image.reduce(FINE), dtype=np.float64) / 255


def _an(item: Item) -> str:
    """The item without its size: "a red circle", "an orange star"."""
    return f"{'an' if item.color == 'orange' else 'a'} {item.color} {item.shape}"


def _item(rng: np.random.Generator) -> Item:
    return Item(_pick(rng, RADII), _pick(rng, COLORS), _pick(rng, SHAPES))


def _pick(rng: np.random.Generator, names: Collection[str]) -> str:
    return list(names)[rng.integers(len(names))]
