"""demo: a model on photographs, in the terminal and on a web page."""

import webbrowser
from pathlib import Path
from typing import Annotated

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.images import read_labels
from multimodal.cli.options import FOLDER, Device, Json, ModelName, flag, open_model, option
from multimodal.files import write_text

MAX_PHOTOS = 60  # on one page


def demo(
    photos: Annotated[
        Path | None, option("FOLDER", "Your own. [default: the photographs of scikit-image]", **FOLDER)
    ] = None,
    out: Annotated[Path, option("FILE", "The page to write.", dir_okay=False)] = Path("demo.html"),
    labels: Annotated[str | None, option("A,B,...", "What the photographs may show.")] = None,
    search: Annotated[list[str] | None, option("TEXT", "A text to search for; repeatable.")] = None,
    show: Annotated[bool, flag("--open", "Open the page in the browser.")] = False,
    model: ModelName = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Try a model on photographs.

    \b
    Examples:
      multimodal demo
      multimodal demo --photos ~/Pictures/holiday --open
      multimodal demo --photos pets/ --labels cat,dog,hamster --search "a sleeping cat"
    """
    names = None if labels is None else read_labels(labels)
    sources = None if photos is None else own_photos(photos)
    if sources is None:
        mm.evaluation.sample_photos()  # fails before a model is loaded
    found = mm.web.make_demo(open_model(model, device), sources, names, search or None)
    console.name_rejected(found.rejected)
    write_text(out, mm.web.render_page(found).encode("utf-8", "backslashreplace").decode())
    head = ", ".join([found.model, *(f"{key} {value}" for key, value in found.facts.items())])
    page = f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser"
    lines = [head, *map(str, found.photos), *map(str, found.searches), page]
    console.show(as_json, {"page": str(out), **found.to_dict()}, *lines)
    if show:
        webbrowser.open(out.resolve().as_uri())


def own_photos(folder: Path) -> "mm.preprocess.Sources":
    """The images of a folder, or `MAX_PHOTOS` of them, evenly spaced."""
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
