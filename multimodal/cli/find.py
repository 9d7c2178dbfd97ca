"""index, search: a searchable folder of images."""

import time
from pathlib import Path
from typing import Annotated

import typer

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.options import AsJson, Device, ModelName, argument, open_model


def index(
    folder: Annotated[Path, argument("FOLDER", "Images, read with all subfolders.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The index: one SQLite file, created or updated.")],
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Make the images of a folder searchable.

    Run it again when the folder has changed: only new and changed images are read. An interrupted run
    continues where it stopped. Unreadable images are skipped and listed.

    \b
    Examples:
      multimodal index photos/ --out photos.db
      multimodal search photos.db "a dog on a beach"
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder, got {'a file' if folder.exists() else 'none'}")
    network = open_model(model, device)
    start = time.perf_counter()
    with network.index(folder, out) as built:
        console.name_rejected(built.rejected)
        seconds = time.perf_counter() - start
        if as_json:
            facts = {"index": str(out), "images": len(built), **built.changes._asdict()}
            rejected = [item.to_dict() for item in built.rejected]
            console.say_json(facts | {"rejected": rejected, "seconds": round(seconds, 3)})
        else:
            embedded, known, dropped = built.changes
            console.say(
                f"{out}: {len(built)} images ({embedded} embedded, {known} known, {dropped} dropped, "
                f"{len(built.rejected)} left out) in {seconds:.1f} s"
            )


def search(
    path: Annotated[Path, argument("INDEX", "A file that `multimodal index` wrote.")],
    query: Annotated[str, argument("QUERY", "What to search for, in words.")],
    image: Annotated[bool, typer.Option("--image", help="QUERY is the path of an image.")] = False,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="The number of results.")] = 5,
    rerank: Annotated[
        int, typer.Option(min=0, metavar="N", help="Rerank the N nearest with a model that can match.")
    ] = 0,
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Search images by text or by image.

    The nearest come first. The score is the cosine of the two embeddings, or with --rerank the probability
    that the text describes the image. The model must be the one that the index was made with.

    \b
    Examples:
      multimodal search photos.db "a dog on a beach"
      multimodal search photos.db cat.jpg --image -k 10 --json
      multimodal search photos.db "a cat on a couch" --rerank 50 --model Salesforce/blip-itm-base-coco
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such index; create it with `multimodal index FOLDER --out {path}`")
    if not query.strip():
        raise ValueError(f"query: expected some words, got {query!r}")
    with mm.Index.open(path, open_model(model, device)) as opened:
        hits = opened.search(Path(query) if image else query, k, rerank)
    if not hits and not as_json:
        console.complain(f"{path} is empty")
    console.show_results(hits, as_json, lambda hit: [(f"{hit.score:.3f}", hit.path)], {}, console.NAME)
