"""index, search: a folder made searchable, and asked."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multimodal.cli import console
from multimodal.cli.options import AsJson, Device, ModelName, open_model
from multimodal.preprocess import printable
from multimodal.results import Hit
from multimodal.tasks import Index


def index(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", show_default=False, help="Pictures, read with all subfolders."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The index: one SQLite file, made or renewed.")],
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Make the pictures of a folder searchable.

    Run it again after the folder has changed: only new and changed pictures are read. It may be stopped at
    any moment and goes on from there. Pictures that cannot be read are named and left out.

    \b
    Examples:
      multimodal index photos/ --out photos.db
      multimodal search photos.db "a dog on a beach"
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder, got {'a file' if folder.exists() else 'none'}")
    network = open_model(model, device)
    start = time.perf_counter()
    with Index.build(network, folder, out) as built:
        console.name_rejected(built.rejected)
        seconds = time.perf_counter() - start
        if as_json:
            console.say_json(
                {
                    "index": str(out),
                    "pictures": len(built),
                    **built.changes._asdict(),
                    "rejected": [item.to_dict() for item in built.rejected],
                    "seconds": round(seconds, 3),
                }
            )
        else:
            embedded, known, dropped = built.changes
            console.say(
                f"{out}: {len(built)} pictures ({embedded} embedded, {known} known, {dropped} dropped, "
                f"{len(built.rejected)} left out) in {seconds:.1f} s"
            )


def search(
    path: Annotated[
        Path,
        typer.Argument(metavar="INDEX", show_default=False, help="What `multimodal index` has written."),
    ],
    query: Annotated[
        str, typer.Argument(metavar="QUERY", show_default=False, help="What to look for, in words.")
    ],
    image: Annotated[bool, typer.Option("--image", help="QUERY is the path of a picture.")] = False,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Find so many.")] = 5,
    rerank: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Let a model that can match look again at the N nearest."),
    ] = 0,
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Find pictures by text or by picture.

    The nearest come first; the score is the cosine of the two embeddings, or with --rerank the probability
    that the text is about the picture. The model must be the one that the index was made with.

    \b
    Examples:
      multimodal search photos.db "a dog on a beach"
      multimodal search photos.db cat.jpg --image -k 10 --json
      multimodal search photos.db "a cat on a couch" --rerank 50 --model Salesforce/blip-itm-base-coco
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such index; `multimodal index FOLDER --out {path}` makes one")
    if not query.strip():
        raise ValueError(f"query: expected some words, got {query!r}")
    with Index.open(path, open_model(model, device)) as opened:
        hits = opened.search(Path(query) if image else query, k, rerank)
    if not hits and not as_json:
        console.complain(f"{path} is empty")
    console.show_results(hits, as_json, hit_table(hits))


def hit_table(hits: list[Hit]) -> Table:
    table = Table.grid("", "", "", padding=(0, 2, 0, 0))
    table.columns[0].justify, table.columns[0].style = "right", "dim"
    table.columns[1].style = "cyan"
    table.columns[2].overflow = "fold"
    for place, hit in enumerate(hits, 1):
        table.add_row(str(place), f"{hit.score:.3f}", printable(hit.path))
    return table
