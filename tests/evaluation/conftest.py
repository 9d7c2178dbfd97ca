"""A model whose figures can be computed by hand, and data sets of plain colours for it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from multimodal.generation import Greedy, Strategy
from multimodal.preprocess import ImageTransform, open_image

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "white": (255, 255, 255),
}


class Sentence(NamedTuple):
    text: str


@dataclass
class ColourModel:
    """Embeds an image as its colour, and a text as the mean of the colours it names."""

    can: set[str]
    logit_scale: float = 3.0
    inputs: dict[str, Any] = field(default_factory=lambda: {"image": ImageTransform(4), "text": None})
    texts: int = 0  # number of embedded texts

    def embed(self, images: list[Any]) -> Tensor:
        pixels = [open_image(image).getpixel((0, 0)) for image in images]
        return F.normalize(torch.tensor(pixels, dtype=torch.float32), dim=1)

    def embed_texts(self, texts: list[str]) -> Tensor:
        self.texts += len(texts)
        rows = [torch.tensor([rgb for name, rgb in COLOURS.items() if name in text]).float().sum(0) for text in texts]
        return F.normalize(torch.stack(rows), dim=1)

    def class_embeddings(self, class_names: list[str], templates: tuple[str, ...] | None) -> Tensor:
        patterns = ["{}"] if templates is None else templates
        rows = [self.embed_texts([p.replace("{}", name) for p in patterns]).mean(0) for name in class_names]
        return F.normalize(torch.stack(rows), dim=1)

    def caption(self, images: list[Any], *, strategy: Strategy) -> list[Sentence]:
        names = {rgb: name for name, rgb in COLOURS.items()}
        ending = "." if strategy == Greedy() else " with a border."
        return [Sentence(f"a {names[open_image(image).getpixel((0, 0))]} square{ending}") for image in images]


def make_table(folder: Path, labels: bool, copies: int = 1, captions: bool = True) -> None:
    """A JSONL of `copies` images of each colour, each with two captions."""
    folder.mkdir(parents=True)
    rows = []
    for name, rgb in COLOURS.items():
        for copy in range(copies):
            file = f"{name}{copy}.png"
            Image.new("RGB", (4, 4), rgb).save(folder / file)
            row: dict[str, Any] = {"image": file}
            if captions:
                row["captions"] = [f"a {name} square.", f"one {name} image number {copy}."]
            rows.append(row | ({"label": name} if labels else {}))
    (folder / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def make_class_folders(folder: Path, copies: int) -> None:
    for name, rgb in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for copy in range(copies):
            Image.new("RGB", (4, 4), rgb).save(folder / name / f"{copy}.png")


@pytest.fixture
def model() -> ColourModel:
    return ColourModel({"classify", "search", "caption"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The sets of the benchmark except CIFAR-10."""
    make_class_folders(tmp_path / "tiny-imagenet" / "val", 3)
    make_table(tmp_path / "rsicd" / "val", labels=True)
    make_table(tmp_path / "flickr8k" / "val", labels=False)
    return tmp_path
