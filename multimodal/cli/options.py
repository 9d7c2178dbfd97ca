"""Arguments that several commands share, and how they are read."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

import multimodal as mm
from multimodal.cli import console

if TYPE_CHECKING:
    import torch


def argument(metavar: str, help: str, **settings: Any) -> Any:
    return typer.Argument(metavar=metavar, help=help, **settings)


def option(metavar: str, help: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, **settings)


def flag(name: str, help: str) -> Any:
    return typer.Option(name, help=help)


def with_stdin(images: list[str]) -> list[str]:
    """The arguments, with the lines of stdin in place of `-`."""
    parts = (sys.stdin.buffer.read().splitlines() if image == "-" else [os.fsencode(image)] for image in images)
    names = [os.fsdecode(name) for part in parts for name in part if name]
    if not names:
        raise ValueError("images: expected some, found none on stdin")
    return names


FOLDER = {"exists": True, "file_okay": False}  # settings of an argument or option: a folder that exists
IMAGES_HELP = "Image files, folders or globs; - reads their names from stdin, one per line."
Images = Annotated[list[str], argument("IMAGES", IMAGES_HELP, callback=with_stdin)]
LISTED = "A name that `multimodal models` lists"
MODEL_HELP = f"{LISTED}, or a folder that `multimodal train` wrote. [default: the model in the package]"
ModelName = Annotated[str | None, option("NAME|FOLDER", MODEL_HELP, "--model")]
STRATEGY_HELP = (
    "How to decode: beam,num_beams=4 follows 4 sentences at a time; greedy,max_new_tokens=9 cuts a sentence. "
    "[default: greedy, the fastest]"
)
Strategy = Annotated[str, option("KIND,KEY=VALUE,...", STRATEGY_HELP, "--strategy", show_default=False)]
Device = Annotated[str | None, option("DEVICE", "cpu, cuda, cuda:1, mps. [default: the fastest]", "--device")]
Json = Annotated[bool, flag("--json", "Print JSON.")]


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


def given(images: list[str]) -> "mm.preprocess.Sources":
    """What the arguments name. A single broken image is an error; of several, broken ones are skipped."""
    sources = mm.preprocess.resolve(images)
    if not sources.items:
        raise ValueError(f"images: expected some, found none in {', '.join(images)}")
    return sources._replace(strict=sources.strict and len(sources.items) == 1)


def exit_code(images: list[str], rejected: "list[mm.Rejected]", used: int) -> int:
    """List the rejected images on stderr; 1 if one of them is an argument. Raises ValueError if none was used."""
    console.name_rejected(rejected)
    if not used:
        raise ValueError(f"images: expected some that can be used, got none among {len(rejected)}")
    return int(not {item.name for item in rejected}.isdisjoint(images))
