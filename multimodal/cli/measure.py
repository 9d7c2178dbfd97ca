"""evaluate: the whole table of a model, and its card."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multimodal.cli import console
from multimodal.cli.demo import LABELS, PHOTOS, sample_photos
from multimodal.cli.options import AsJson, Device, open_model
from multimodal.evaluation import (
    Answer,
    Report,
    evaluate_model,
    gallery_chart,
    measure_speed,
    per_class_chart,
    reliability_chart,
)
from multimodal.files import atomic_write
from multimodal.model import Model
from multimodal.preprocess import open_image
from multimodal.zoo import update_card

THUMBNAIL = 320  # pixels, of the photographs in the gallery


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", show_default=False, help="A name that `multimodal models` lists, or a folder."
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="ROOT", help="The folder with the validation sets.")],
    beams: Annotated[
        str, typer.Option(metavar="A,B,...", help="Captions are written once for each number; 1 is greedy.")
    ] = "1,3",
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False, help="At most so many images of each set."),
    ] = None,
    card: Annotated[
        bool,
        typer.Option("--card", help="Put figures, charts and speed into the card of MODEL, a folder then."),
    ] = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on all validation sets that are there.

    Zero-shot classes, search in both directions and captions, on those of tiny-imagenet/val, rsicd/val,
    cifar10/test and flickr8k/val that lie under ROOT.

    \b
    Examples:
      multimodal evaluate small --data ~/data
      multimodal evaluate runs/mine --data ~/data --limit 200 --beams 1
      multimodal evaluate runs/mine --data ~/data --card
    """
    numbers = read_beams(beams)
    folder = Path(model)
    if card and not (folder / "config.json").is_file():
        raise ValueError(f"card: expected MODEL to be a model folder, got {model!r}")
    # A folder may be called like a shipped model: the card must go to the one that is measured.
    network = open_model(str(folder.resolve()) if card else model, device)
    report = evaluate_model(network, data, limit, numbers)
    console.name_rejected(report.rejected)
    if card:
        write_card(folder, network, report)
    if as_json:
        console.say_json({"model": network.name, **report.to_dict()})
    elif console.on_terminal():
        console.show_table(report_table(report))
    else:
        console.say_lines(str(Report(report.rows)))


def read_beams(text: str) -> list[int]:
    """Whole numbers from 1, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"beams: expected whole numbers from 1, separated by commas, got {text!r}")
    return [int(part) for part in parts]


def report_table(report: Report) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("dataset", "measure"):
        table.add_column(name)
    for name in ("value", "n"):
        table.add_column(name, justify="right")
    before = None
    for row in report.rows:
        dataset, *rest = row.cells()
        if before not in (None, dataset):
            table.add_section()
        table.add_row("" if dataset == before else dataset, *rest)
        before = dataset
    return table


def write_card(folder: Path, model: Model, report: Report) -> None:
    """The figures, what they look like, and how fast they came, into config.json and README.md of `folder`."""
    pictures: dict[str, tuple[str, bytes]] = {}
    if report.zero_shot:
        pictures["Accuracy of each class"] = "per_class.png", per_class_chart(report.zero_shot)
        pictures["Reliability"] = "reliability.png", reliability_chart(report.zero_shot)
    try:
        pictures["Failures"] = "failures.jpg", gallery_chart(answers(model))
    except FileNotFoundError as error:  # the photographs are an extra
        console.complain(f"no gallery: {error}")
    for name, picture in pictures.values():
        with atomic_write(folder / name) as file:
            file.write(picture)
    found = {
        "figures": {name: round(value, 4) for name, value in report.flat().items()},
        "speed": {"device": str(model.device), **measure_speed(model)},
        "pictures": {title: name for title, (name, _) in pictures.items()},
    }
    update_card(folder, model.card | found)


def answers(model: Model) -> list[Answer]:
    """What the model says of the photographs of the demo. FileNotFoundError where they are not installed."""
    sources = sample_photos()
    classes = model.classify(sources, list(LABELS))
    captions = (
        [caption.text for caption in model.caption(sources)]
        if "caption" in model.can
        else [None] * len(classes)
    )
    found = []
    for path, name, said, caption in zip(sources.items, sources.names, classes, captions, strict=True):
        picture = open_image(path)
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        found.append(Answer(picture, PHOTOS[name], said.label, said.score, caption))
    return found
