"""ask, match: a question or a text beside the pictures."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table

from multimodal.cli import console
from multimodal.cli.options import AsJson, Device, ModelName, given, open_model
from multimodal.preprocess import printable

Images = Annotated[
    str, typer.Argument(metavar="IMAGE", show_default=False, help="A picture, a folder with them, or a glob.")
]


def ask(
    image: Images,
    question: Annotated[str, typer.Argument(metavar="QUESTION", show_default=False, help="In words.")],
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Ask a question about each picture.

    It takes a model that can answer: `multimodal models --can answer`.

    \b
    Examples:
      multimodal ask cat.jpg "what colour is the cat?" --model Salesforce/blip-vqa-base
    """
    pictures = given([image])
    results = open_model(model, device).answer(pictures.sources._replace(single=False), question)
    code = pictures.code(results.rejected, len(results))
    console.show_results(results, as_json, table((each.item.name, each.text) for each in results))
    return code


def match(
    image: Images,
    text: Annotated[str, typer.Argument(metavar="TEXT", show_default=False, help="What it may show.")],
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Say how likely a text is about each picture.

    It takes a model that can match: `multimodal models --can match`.

    \b
    Examples:
      multimodal match photos/ "a cat on a couch" --model Salesforce/blip-itm-base-coco
    """
    pictures = given([image])
    results = open_model(model, device).match(pictures.sources._replace(single=False), text)
    code = pictures.code(results.rejected, len(results))
    console.show_results(results, as_json, table((each.item.name, f"{each.score:.1%}") for each in results))
    return code


def table(rows: Iterable[tuple[str, str]]) -> Table:
    shown = Table.grid("", "", padding=(0, 2, 0, 0))
    shown.columns[0].overflow, shown.columns[0].style = "fold", "cyan"
    for row in rows:
        shown.add_row(*map(printable, row))
    return shown
