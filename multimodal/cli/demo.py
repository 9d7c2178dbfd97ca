"""demo: a model on photographs, in the terminal and on a web page."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.images import read_labels
from multimodal.cli.options import AsJson, Device, ModelName, open_model, option
from multimodal.files import write_text

MAX_PHOTOS = 60  # on one page


def demo(
    photos: Annotated[
        Path | None, option(metavar="FOLDER", help="Your own. [default: the photographs of scikit-image]")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("demo.html"),
    labels: Annotated[str | None, option(metavar="A,B,...", help="What the photographs may show.")] = None,
    search: Annotated[list[str] | None, option(metavar="TEXT", help="A text to search for; repeatable.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Try a model on photographs.

    \b
    Examples:
      multimodal demo
      multimodal demo --photos ~/Pictures/holiday --open
      multimodal demo --photos pets/ --labels cat,dog,hamster --search "a sleeping cat"
    """
    if out.is_dir():
        raise ValueError(f"out: expected a file to write, got {out}, which is a folder")
    names = None if labels is None else read_labels(labels)
    sources = None if photos is None else own_photos(photos)
    if sources is None:
        mm.evaluation.sample_photos()  # fails before a model is loaded
    found = mm.web.make_demo(open_model(model, device), sources, names, search or None)
    console.name_rejected(found.rejected)
    write_text(out, mm.web.render_page(found).encode("utf-8", "backslashreplace").decode())
    if as_json:
        console.say_json({"page": str(out), **found.to_dict()})
    else:
        show_demo(found)
        console.say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser")
    if show:
        webbrowser.open(out.resolve().as_uri())


def own_photos(folder: Path) -> "mm.preprocess.Sources":
    """The images of a folder, or `MAX_PHOTOS` of them, evenly spaced."""
    if not folder.is_dir():
        raise FileNotFoundError(f"photos: expected a folder, got {folder}, which is not one")
    sources = mm.preprocess.resolve(folder)
    count = len(sources.items)
    if not count:
        raise ValueError(f"photos: expected images, found none in {folder}")
    if count <= MAX_PHOTOS:
        return sources
    console.complain(f"showing {MAX_PHOTOS} of the {count} images in {folder}")
    places = [i * count // MAX_PHOTOS for i in range(MAX_PHOTOS)]
    items, names = [sources.items[i] for i in places], [sources.names[i] for i in places]
    return sources._replace(items=items, names=names)


def show_demo(found: "mm.web.Demo") -> None:
    """A summary: tables on a terminal, lines elsewhere."""
    console.say(", ".join([found.model, *(f"{key} {value}" for key, value in found.facts.items())]))
    if console.on_terminal():
        rows = (row for photo in found.photos for row in photo_rows(photo))
        console.show_table(rows, console.NAME, {"header": "class and caption", **console.TEXT})
        console.say()
        hits = ((search.query, ", ".join(map(short, search.hits[:3]))) for search in found.searches)
        console.show_table(hits, {"header": "search"}, {"header": "results"})
        return
    for photo in found.photos:
        console.say(str(photo.classification) + (f": {photo.caption}" if photo.caption else ""))
    for search in found.searches:
        console.say(f"“{search.query}”: {', '.join(f'{hit.item.name} {hit.score:.3f}' for hit in search.hits)}")


def photo_rows(photo: "mm.web.Photo") -> console.Rows:
    found = photo.classification
    yield Path(found.item.name).name, f"{console.bar(found.score):10} {found.score:4.0%} {found.label}"
    if photo.caption:
        yield "", photo.caption


def short(hit: "mm.Hit") -> str:
    return f"{Path(hit.item.name).name} {hit.score:.2f}"
