"""models, download, convert, verify: which models there are, checkpoints of others, and their folders."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multimodal.cli import console
from multimodal.cli.options import AsJson
from multimodal.preprocess import printable
from multimodal.zoo import ModelEntry, Models, load
from multimodal.zoo import convert as convert_checkpoint
from multimodal.zoo import download as download_checkpoint
from multimodal.zoo import models as list_models

To = Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder to make.")]

SHOWN = 2  # tags of a model, where all models are listed


def models(
    can: Annotated[
        str | None,
        typer.Option(
            metavar="ABILITY",
            show_default=False,
            help="Only those that can classify, search, caption, match or answer.",
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            metavar="WORD", show_default=False, help="Only those with WORD in family, name or tag; all tags."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List models that have a name, and what they can do.

    `--model` takes a name, with one of its tags after a colon if it has some (ViT-B-32:laion2b_s34b_b79k), or
    the folder of any run.

    \b
    Examples:
      multimodal models
      multimodal models --can caption
      multimodal models --family metaclip --json
    """
    listed = list_models(can, family)
    if as_json:
        console.say_json(listed.to_dict())
    elif not console.on_terminal():
        console.say_lines(str(listed))
    else:
        console.show_table(model_table(listed, None if family else SHOWN))
        tags = sum(len(each.tags) for each in listed)
        more = "" if family else "; --family WORD shows all tags of some"
        console.say(f"{len(listed)} models with {tags} tags, as in NAME:TAG{more}")


def model_table(listed: Models, tags: int | None) -> Table:
    """By family. tags: show the first ones, and count the others; None shows all."""
    table = Table.grid("", "", "", padding=(0, 2, 0, 0))
    table.columns[0].no_wrap, table.columns[0].style = True, "cyan"
    table.columns[1].no_wrap, table.columns[1].justify = True, "right"
    table.columns[2].overflow, table.columns[2].style = "fold", "dim"
    for (family, can), members in listed.groups.items():
        table.add_row(family, "", f"can {can}", style="bold not dim")
        for each in members:
            table.add_row(*map(printable, (f"  {each.name}", count(each), named(each.tags, tags))))
    return table


def count(each: ModelEntry) -> str:
    return "" if each.num_parameters is None else f"{each.num_parameters / 1e6:,.0f} M"


def named(tags: tuple[str, ...], most: int | None) -> str:
    """The first `most` of them, and how many more there are."""
    if most is None or len(tags) <= most + 1:  # the last one takes no more room than its number
        return ", ".join(tags)
    return f"{', '.join(tags[:most])}, +{len(tags) - most}"


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
