"""demo: the main job on real photographs, offline, in the terminal and on a page."""

import importlib.util
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.bar import Bar
from rich.console import Group
from rich.table import Table
from rich.text import Text

from multimodal import __version__
from multimodal.cli import console
from multimodal.cli.images import read_labels
from multimodal.cli.make import shown_figure
from multimodal.cli.options import AsJson, Device, ModelName, open_model
from multimodal.cli.page import Demo, Photo, Search, page
from multimodal.files import write_text
from multimodal.model import Model
from multimodal.preprocess import Sources, printable, resolve
from multimodal.results import Hit, Rejected, Results

# The photographs in the scikit-image wheel, all of them without drawings, textures of cells and scans, and
# which of `LABELS` is right.
PHOTOS = {
    "astronaut.png": "astronaut",
    "chelsea.png": "cat",
    "coffee.png": "cup of coffee",
    "rocket.jpg": "rocket",
    "motorcycle_left.png": "motorcycle",
    "camera.png": "photographer",
    "hubble_deep_field.jpg": "stars",
    "coins.png": "coins",
    "moon.png": "moon",
    "brick.png": "brick wall",
    "grass.png": "grass",
    "gravel.png": "gravel",
}
LABELS = (
    *("cat", "dog", "horse", "bird", "astronaut", "photographer", "child", "crowd of people"),
    *("cup of coffee", "pizza", "motorcycle", "bicycle", "car", "rocket", "airplane", "ship"),
    *("coins", "stars", "moon", "brick wall", "grass", "gravel", "beach", "forest"),
)
SEARCHES = (
    "a cat looking at the camera",
    "a cup of coffee on a wooden table",
    "a red motorcycle",
    "a rocket at night",
    "a woman in an orange space suit",
    "a man taking a picture",
)
OWN_LABELS = (
    *("person", "group of people", "child", "dog", "cat", "bird", "horse", "flower", "forest", "mountain"),
    *("beach", "lake", "snow", "sunset", "city street", "building", "room", "food", "car", "bicycle", "boat"),
)
OWN_SEARCHES = (
    "people smiling",
    "children playing",
    "a dog running",
    "a street in a city",
    "mountains and a lake",
    "food on a table",
)
MOST = 60  # photographs on one page
KEPT = 4  # scores of each photograph and hits of each search
TELLING = {  # the figures that go on the page, where the card has them
    "zero_shot_top1": "class right",
    "text_to_image_recall@10": "found among 10",
    "CIDEr": "captions, CIDEr",
}
MEANING = (
    "The figures. Class right: share of pictures whose class the model names first, of all classes of the "
    "set. Found among 10: share of sentences whose picture is one of the first ten found. CIDEr: how much "
    "captions are like those that people wrote."
)


def demo(
    photos: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default=False, help="Your own. [default: those of scikit-image]"),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("demo.html"),
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", show_default=False, help="What the photographs may show."),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", show_default=False, help="What to look for; may be given several times."
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Show it all on real photographs.

    \b
    Examples:
      multimodal demo
      multimodal demo --photos ~/Pictures/holiday --open
      multimodal demo --photos pets/ --labels cat,dog,hamster --search "a sleeping cat"
    """
    start = time.perf_counter()
    if out.is_dir():
        raise ValueError(f"out: expected a file to write, got {out}, which is a folder")
    sources = sample_photos() if photos is None else own_photos(photos)
    names = list(LABELS if photos is None else OWN_LABELS) if labels is None else read_labels(labels)
    queries = search or list(SEARCHES if photos is None else OWN_SEARCHES)
    network = open_model(model, device)
    found, rejected = look(network, sources, names, queries, start)
    console.name_rejected(rejected)
    write_text(out, page(found).encode("utf-8", "backslashreplace").decode())
    if as_json:
        console.say_json(as_dict(found, rejected, out))
    else:
        show_demo(found)
        console.say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser")
    if show:
        webbrowser.open(out.resolve().as_uri())


def sample_photos() -> Sources:
    """The photographs in the scikit-image wheel, which is found, and not imported."""
    spec = importlib.util.find_spec("skimage")
    folders = (
        [] if spec is None else [Path(place) / "data" for place in spec.submodule_search_locations or ()]
    )
    paths = [folder / name for folder in folders for name in PHOTOS if (folder / name).is_file()]
    if not paths:
        raise FileNotFoundError(
            "the photographs of the demo ship with scikit-image, which is not installed: run `pip install "
            "scikit-image` (the extra `demo` of multimodal-models), or pass your own with --photos FOLDER"
        )
    return Sources(paths, [path.name for path in paths], False, False)


def own_photos(folder: Path) -> Sources:
    """Those in a folder, of many evenly spaced ones."""
    if not folder.is_dir():
        raise FileNotFoundError(f"photos: expected a folder, got {folder}, which is not one")
    sources = resolve(folder)
    count = len(sources.items)
    if not count:
        raise ValueError(f"photos: expected pictures, found none in {folder}")
    if count <= MOST:
        return sources
    console.complain(f"showing {MOST} of the {count} pictures in {folder}")
    places = [i * count // MOST for i in range(MOST)]
    return sources._replace(
        items=[sources.items[i] for i in places], names=[sources.names[i] for i in places]
    )


def look(
    model: Model, sources: Sources, labels: list[str], queries: list[str], start: float
) -> tuple[Demo, list[Rejected]]:
    """Ask the model everything. Raises ValueError where no picture can be used."""
    classes: Results[Any] = model.classify(sources, labels, top_k=KEPT)
    if not classes:
        raise ValueError(f"none of the {len(sources.items)} pictures can be used: {classes.rejected[0]}")
    lost = {item.name for item in classes.rejected}
    kept = [i for i, name in enumerate(sources.names) if name not in lost]
    sources = sources._replace(items=[sources.items[i] for i in kept], names=[sources.names[i] for i in kept])
    captions: list[Any] = model.caption(sources) if "caption" in model.can else [None] * len(kept)
    photos = [
        Photo(found, None if caption is None else caption.text)
        for found, caption in zip(classes, captions, strict=True)
    ]
    scores = model.similarity(sources, queries).T  # [queries, photos]
    searches = [Search(query, best(row, photos)) for query, row in zip(queries, scores, strict=True)]
    seconds = time.perf_counter() - start
    made = f"Made by multimodal {__version__} with {model!r} in {seconds:.1f} s, of {len(photos)} pictures."
    footer = [MEANING, made] if has_figures(model) else [made]
    return Demo(model.name, facts(model), notes(model), labels, photos, searches, footer), classes.rejected


def best(scores: torch.Tensor, photos: list[Photo]) -> list[Hit]:
    """scores: [photos]"""
    order = scores.argsort(descending=True, stable=True)[:KEPT].tolist()
    return [Hit(photos[i].item.name, float(scores[i]), photos[i].item) for i in order]


def facts(model: Model) -> dict[str, str]:
    """What the model is, and the figures on its card."""
    size = model.transform.image_size
    found = {
        "parameters": f"{model.parameters / 1e6:.1f} M",
        "sees": f"{size} × {size} pixels",
        "runs on": str(model.device),
    }
    for key, value in figures(model).items():
        dataset, _, measure = key.rpartition("/")
        if measure in TELLING:
            found[f"{dataset} · {TELLING[measure]}"] = shown_figure(key, value)
    return found


def figures(model: Model) -> dict[str, float]:
    """`dataset/measure` -> value, as the card has them."""
    on_card = model.card.get("figures")
    return on_card if isinstance(on_card, dict) else {}


def has_figures(model: Model) -> bool:
    return any(key.rpartition("/")[2] in TELLING for key in figures(model))


def notes(model: Model) -> list[str]:
    """What the card says of the model, and how to take its answers."""
    said = [model.card[key] for key in ("about", "limits") if isinstance(model.card.get(key), str)]
    if has_figures(model):
        said.append("The figures were measured on pictures that it was not trained on.")
    return [*said, "Its answers below are shown as they came: none was picked or corrected. Some are wrong."]


def as_dict(found: Demo, rejected: list[Rejected], out: Path) -> dict[str, Any]:
    return {
        "page": str(out),
        "model": found.model,
        "photos": [photo.classification.to_dict() | {"caption": photo.caption} for photo in found.photos],
        "searches": [
            {"query": search.query, "hits": [hit.to_dict() for hit in search.hits]}
            for search in found.searches
        ],
        "rejected": [item.to_dict() for item in rejected],
    }


def show_demo(found: Demo) -> None:
    """The summary: tables on a terminal, lines elsewhere."""
    console.say(", ".join([found.model, *(f"{key} {value}" for key, value in found.facts.items())]))
    if console.on_terminal():
        console.show_table(photo_table(found.photos))
        console.say()
        console.show_table(search_table(found.searches))
        return
    for photo in found.photos:
        console.say(str(photo.classification) + (f": {photo.caption}" if photo.caption else ""))
    for search in found.searches:
        console.say(
            f"“{search.query}”: {', '.join(f'{hit.item.name} {hit.score:.3f}' for hit in search.hits)}"
        )


def photo_table(photos: Sequence[Photo]) -> Table:
    table = Table("", "class and caption", box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for photo in photos:
        found = photo.classification
        choice = Table.grid("", "", "", padding=(0, 1, 0, 0))
        bar = Bar(1, 0, found.score, width=10, color="cyan")
        choice.add_row(bar, f"{found.score:4.0%}", Text(printable(found.label), style="bold"))
        answer = Group(choice, printable(photo.caption)) if photo.caption else choice
        table.add_row(printable(Path(found.item.name).name), answer)
    return table


def search_table(searches: Sequence[Search]) -> Table:
    table = Table("search", "finds", box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for search in searches:
        hits = ", ".join(f"{Path(hit.item.name).name} {hit.score:.2f}" for hit in search.hits[:3])
        table.add_row(printable(search.query), printable(hits))
    return table
