"""download, convert, verify: checkpoints of others, and their folders."""

from pathlib import Path
from typing import Annotated

import typer

from multimodal.cli import console
from multimodal.cli.options import AsJson
from multimodal.zoo import convert as convert_checkpoint
from multimodal.zoo import download as download_checkpoint
from multimodal.zoo import load

To = Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder to make.")]


def download(
    name: Annotated[
        str, typer.Argument(metavar="NAME", show_default=False, help="A name that `multimodal models` lists.")
    ],
    to: To,
    as_json: AsJson = False,
) -> None:
    """Download a checkpoint, to use it offline or elsewhere.

    What is downloaded is checked by its hash; a download that was cut leaves no folder. `--model FOLDER` uses it.

    \b
    Examples:
      multimodal download ViT-B-32:laion2b_s34b_b79k --to vit-b-32
      multimodal download Salesforce/blip-image-captioning-base --to blip
    """
    files = download_checkpoint(name, to)
    size = sum(file.stat().st_size for file in files)
    if as_json:
        console.say_json({"folder": str(to), "files": [file.name for file in files], "bytes": size})
    else:
        console.say(f"{to}: {len(files)} files, {size / 1e6:.0f} MB; use it with --model {to}")


def convert(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", show_default=False, help="A name, a folder or a file that can be loaded."
        ),
    ],
    to: To,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="The weights, where MODEL is an architecture."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default=False, help="Its tokenizer, if not beside the weights."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint in the format of this package.

    The folder holds safetensors, one config and vectors by which `multimodal verify` knows it.

    \b
    Examples:
      multimodal convert blip --to blip-here
      multimodal convert ViT-B-32 --weights model.safetensors --to vit-b-32
    """
    convert_checkpoint(name, to, weights=weights, tokenizer=tokenizer)
    size = (to / "model.safetensors").stat().st_size
    if as_json:
        console.say_json({"folder": str(to), "bytes": size})
    else:
        console.say(f"{to}: {size / 1e6:.0f} MB; use it with --model {to}")


def verify(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", show_default=False, help="A model folder.")],
    as_json: AsJson = False,
) -> None:
    """Compute again what a model folder recorded of itself.

    The hash of the weights, and the embeddings and sentences of a built-in picture and text.

    \b
    Examples:
      multimodal verify runs/mine
    """
    model = load(folder, device="cpu", verify=True)
    if as_json:
        console.say_json({"folder": folder, "model": model.name, "verified": sorted(model.card["golden"])})
    else:
        console.say(
            f"{folder}: {model.name} gives what it recorded: {', '.join(sorted(model.card['golden']))}"
        )
