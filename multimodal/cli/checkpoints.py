"""models, download, convert, verify: listed models, third-party checkpoints and model folders."""

import textwrap
from pathlib import Path
from typing import Annotated

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.options import LISTED, Json, argument, option

To = Annotated[Path, option("FOLDER", "The folder to create.", "--to")]


def models(
    can: Annotated[str | None, option("ABILITY", "Models that classify, search, caption, match or answer.")] = None,
    family: Annotated[str | None, option("WORD", "Models with WORD in family, name or tag, with all tags.")] = None,
    as_json: Json = False,
) -> None:
    """List the models that have a name, and what they can do.

    `--model` takes a name, with a tag after a colon if there are tags (ViT-B-32:laion2b_s34b_b79k), or the
    folder of a run.

    \b
    Examples:
      multimodal models
      multimodal models --can caption
      multimodal models --family metaclip --json
    """
    listed = mm.models(can, family)
    if as_json or not console.on_terminal():
        console.show(as_json, listed.to_dict(), *str(listed).splitlines())
    else:
        columns = {"no_wrap": True, "style": "cyan"}, console.NUMBER, {"style": "dim", **console.TEXT}
        console.show_table(model_rows(listed, all_tags=bool(family)), *columns)
        tags = sum(len(each.tags) for each in listed)
        more = "" if family else "; --family WORD shows all tags"
        console.say(f"{len(listed)} models with {tags} tags, as in NAME:TAG{more}")


def model_rows(listed: "mm.zoo.Models", all_tags: bool) -> console.Rows:
    """The models by family."""
    for (family, can), members in listed.groups.items():
        yield family, "", f"can {can}"
        for each in members:
            size = "" if each.num_parameters is None else f"{each.num_parameters / 1e6:,.0f} M"
            tags = ", ".join(each.tags)
            yield f"  {each.name}", size, tags if all_tags else textwrap.shorten(tags, 40, placeholder=" ...")


def download(name: Annotated[str, argument("NAME", f"{LISTED}.")], to: To, as_json: Json = False) -> None:
    """Download a checkpoint, to use it offline or elsewhere.

    Files are checked by their hash, and an interrupted download leaves no folder. Use it with `--model FOLDER`.

    \b
    Examples:
      multimodal download ViT-B-32:laion2b_s34b_b79k --to vit-b-32
      multimodal download Salesforce/blip-image-captioning-base --to blip
    """
    files = mm.zoo.download(name, to)
    size = sum(file.stat().st_size for file in files)
    facts = {"folder": str(to), "files": [file.name for file in files], "bytes": size}
    console.show(as_json, facts, f"{to}: {len(files)} files, {size / 1e6:.0f} MB; use it with --model {to}")


def convert(
    name: Annotated[str, argument("MODEL", "A name, a folder or a file that can be loaded.")],
    to: To,
    weights: Annotated[Path | None, option("FILE", "The weights, if MODEL is an architecture.")] = None,
    tokenizer: Annotated[Path | None, option("FOLDER", "The tokenizer, if not next to the weights.")] = None,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint to the format of this package.

    The folder holds safetensors, a config and reference outputs for `multimodal verify`.

    \b
    Examples:
      multimodal convert blip --to blip-here
      multimodal convert ViT-B-32 --weights model.safetensors --to vit-b-32
    """
    mm.zoo.convert(name, to, weights=weights, tokenizer=tokenizer)
    size = (to / "model.safetensors").stat().st_size
    line = f"{to}: {size / 1e6:.0f} MB; use it with --model {to}"
    console.show(as_json, {"folder": str(to), "bytes": size}, line)


def verify(folder: Annotated[str, argument("FOLDER", "A model folder.")], as_json: Json = False) -> None:
    """Check a model folder against what it recorded of itself.

    The hash of the weights, and the embeddings and captions of a built-in image and text.

    \b
    Examples:
      multimodal verify runs/mine
    """
    model = mm.load(folder, device="cpu", verify=True)
    names = sorted(model.card["golden"])
    line = f"{folder}: {model.name} reproduces its recorded outputs: {', '.join(names)}"
    console.show(as_json, {"folder": folder, "model": model.name, "verified": names}, line)
