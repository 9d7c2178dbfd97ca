"""index, search: a searchable folder of images."""

import time
from pathlib import Path
from typing import Annotated

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.options import FOLDER, Device, Json, ModelName, argument, flag, open_model, option


def index(
    folder: Annotated[Path, argument("FOLDER", "Images, read with all subfolders.", **FOLDER)],
    out: Annotated[Path, option("FILE", "The index: one SQLite file, created or updated.")],
    model: ModelName = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Make the images of a folder searchable.

    Run it again when the folder has changed: only new and changed images are read. An interrupted run
    continues where it stopped. Unreadable images are skipped and listed.

    \b
    Examples:
      multimodal index photos/ --out photos.db
      multimodal search photos.db "a dog on a beach"
    """
    network = open_model(model, device)
    start = time.perf_counter()
    with network.index(folder, out) as built:
        rejected, changes, count = built.rejected, built.changes._asdict(), len(built)
    seconds = time.perf_counter() - start
    console.name_rejected(rejected)
    counts = ", ".join(f"{number} {name}" for name, number in changes.items())
    line = f"{out}: {count} images ({counts}, {len(rejected)} left out) in {seconds:.1f} s"
    facts = {"index": str(out), "images": count, **changes, "rejected": [item.to_dict() for item in rejected]}
    console.show(as_json, facts | {"seconds": round(seconds, 3)}, line)


def search(
    path: Annotated[Path, argument("INDEX", "A file that `multimodal index` wrote.", exists=True)],
    query: Annotated[str, argument("QUERY", "What to search for, in words.")],
    image: Annotated[bool, flag("--image", "QUERY is the path of an image.")] = False,
    k: Annotated[int, option("N", "The number of results.", "-k", min=1)] = 5,
    rerank: Annotated[int, option("N", "Rerank the N nearest with a model that can match.", min=0)] = 0,
    model: ModelName = None,
    device: Device = None,
    as_json: Json = False,
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
    if not query.strip():
        raise ValueError(f"query: expected some words, got {query!r}")
    with mm.Index.open(path, open_model(model, device)) as opened:
        hits = opened.search(Path(query) if image else query, k, rerank)
    if not hits and not as_json:
        console.complain(f"{path} is empty")
    console.show_results(hits, as_json, lambda hit: [(f"{hit.score:.3f}", hit.path)], {}, console.NAME)
