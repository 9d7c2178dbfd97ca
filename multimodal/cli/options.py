"""Arguments that several commands share, and what is made of them."""

from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer

from multimodal.cli import console
from multimodal.model import Model
from multimodal.preprocess import Sources, resolve
from multimodal.results import Rejected
from multimodal.zoo import choose_device, load

Pictures = Annotated[
    list[str],
    typer.Argument(metavar="IMAGES", show_default=False, help="Pictures, folders with them, or globs."),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|FOLDER",
        show_default=False,
        help="A name that `multimodal models` lists, or a folder that `multimodal train` has written. "
        "[default: the model in the package]",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", show_default=False, help="cpu, cuda, cuda:1, mps. [default: the best]"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def device_of(name: str | None) -> torch.device:
    """The device called `name`; ValueError where this machine has none."""
    device = choose_device(name)
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 0):
        found = [kind for kind, count in there.items() if count]
        raise ValueError(f"device: expected one that is here ({', '.join(found)}), got {name!r}")
    return device


def open_model(name: str | None, device: str | None) -> Model:
    return load(name, device=device_of(device))


class Given(NamedTuple):
    """Pictures of a command line. One of many that is broken is left out and named."""

    sources: Sources
    named: bool  # each was named, none comes from a folder or a glob

    def code(self, rejected: list[Rejected], used: int) -> int:
        """Name what was left out; the exit code. Raises ValueError where nothing was left."""
        console.name_rejected(rejected)
        if not used:
            raise ValueError(f"expected pictures that can be used, got none among {len(rejected)}")
        return 1 if rejected and self.named else 0


def given(images: list[str]) -> Given:
    """The pictures that `images` stands for; ValueError where there are none, or one is not there."""
    sources = resolve(images)
    if not sources.items:
        raise ValueError(f"expected pictures, found none in {', '.join(images)}")
    for item in sources.items:
        if isinstance(item, Path) and sources.strict and not item.exists():
            raise FileNotFoundError(f"{item}: no such file")
    one = sources.strict and len(sources.items) == 1
    return Given(sources._replace(strict=one), sources.strict)
