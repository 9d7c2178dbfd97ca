"""Arguments that several commands share, and how they are read."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

import multimodal as mm
from multimodal.cli import console

if TYPE_CHECKING:
    import torch


def option(*names: str, **settings: Any) -> Any:
    """`typer.Option` whose help text states the default itself."""
    return typer.Option(*names, show_default=False, **settings)


def argument(metavar: str, help: str) -> Any:
    return typer.Argument(metavar=metavar, show_default=False, help=help)


Images = Annotated[list[str], argument("IMAGES", "Image files, folders or globs.")]
Image = Annotated[str, argument("IMAGE", "An image file, a folder or a glob.")]
ModelName = Annotated[
    str | None,
    option(
        "--model",
        metavar="NAME|FOLDER",
        help="A name that `multimodal models` lists, or a folder that `multimodal train` wrote. "
        "[default: the model in the package]",
    ),
]
Strategy = Annotated[
    str,
    option(
        "--strategy",
        metavar="KIND,KEY=VALUE,...",
        help="How to decode: beam,num_beams=4 follows 4 sentences at a time; greedy,max_new_tokens=9 cuts a "
        "sentence. [default: greedy, the fastest]",
    ),
]
Device = Annotated[
    str | None, option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps. [default: the fastest]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def device_of(name: str | None) -> "torch.device":
    """The device called `name`. ValueError if this machine does not have it."""
    import torch

    device = mm.zoo.choose_device(name)
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= counts.get(device.type, 0):
        found = [kind for kind, count in counts.items() if count]
        raise ValueError(f"device: expected one of this machine ({', '.join(found)}), got {name!r}")
    return device


def open_model(name: str | None, device: str | None) -> "mm.Model":
    return mm.load(name, device=device_of(device))


class Given(NamedTuple):
    """The images of a command line. Broken ones among several are skipped and listed."""

    sources: "mm.preprocess.Sources"
    named: bool  # each was named, none comes from a folder or a glob

    def code(self, rejected: "list[mm.Rejected]", used: int) -> int:
        """List the rejected images and return the exit code. Raises ValueError if none was used."""
        console.name_rejected(rejected)
        if not used:
            raise ValueError(f"images: expected some that can be used, got none among {len(rejected)}")
        return 1 if rejected and self.named else 0

    def show(
        self, results: "mm.Results[Any]", as_json: bool, rows: Callable[[Any], console.Rows], *columns: Any
    ) -> int:
        """Print the results, in a table with the image names first, and return the exit code."""
        code = self.code(results.rejected, len(results))
        console.show_results(results, as_json, rows, console.NAME, *columns)
        return code


def given(images: list[str]) -> Given:
    """The images that `images` names. ValueError if there are none, or a named one is missing."""
    sources = mm.preprocess.resolve(images)
    if not sources.items:
        raise ValueError(f"images: expected some, found none in {', '.join(images)}")
    for item in sources.items:
        if isinstance(item, Path) and sources.strict and not item.exists():
            raise FileNotFoundError(f"{item}: no such file")
    one = sources.strict and len(sources.items) == 1
    return Given(sources._replace(strict=one), sources.strict)
