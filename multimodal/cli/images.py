"""demo, classify, caption, ask, match, index, search, embed: a model used on images."""

import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import multimodal as mm
from multimodal.cli import console, options
from multimodal.cli.options import FOLDER, Device, Image, Images, Json, ModelName, Strategy, argument, flag, option
from multimodal.files import atomic_write, write_text

MAX_PHOTOS = 60  # on the page of `demo`
Text = Annotated[str, argument("TEXT", "A description.")]


def demo(
    photos: Annotated[
        Path | None, option("FOLDER", "Your own. [default: the photographs of scikit-image]", **FOLDER)
    ] = None,
    out: Annotated[Path, option("FILE", "The page to write.", dir_okay=False)] = Path("demo.html"),
    labels: Annotated[str | None, option("A,B,...", "What the photographs may show.")] = None,
    search: Annotated[list[str] | None, option("TEXT", "A text to search for; repeatable.")] = None,
    open_page: Annotated[bool, flag("--open", "Open the page in the browser.")] = False,
    model: ModelName = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Try a model on photographs.

    \b
    Examples:
      multimodal demo
      multimodal demo --photos ~/photos/holiday --open
      multimodal demo --photos pets/ --labels cat,dog,hamster --search "a sleeping cat"
    """
    names = None if labels is None else read_labels(labels)
    sources = None if photos is None else own_photos(photos)
    if sources is None:
        mm.evaluation.sample_photos()  # fails before a model is loaded
    found = mm.web.make_demo(options.open_model(model, device), sources, names, search or None)
    console.name_rejected(found.rejected)
    write_text(out, mm.web.render_page(found).encode("utf-8", "backslashreplace").decode())
    head = ", ".join([found.model, *(f"{key} {value}" for key, value in found.facts.items())])
    page = f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser"
    lines = [head, *map(str, found.photos), *map(str, found.searches), page]
    console.show(as_json, {"page": str(out), **found.to_dict()}, *lines)
    if open_page:
        webbrowser.open(out.resolve().as_uri())


def classify(
    images: Images,
    labels: Annotated[str, option("A,B,...", "What the images may show, or @FILE: a file with one label per line.")],
    templates: Annotated[
        list[str] | None,
        option(
            "TEXT",
            "A sentence with {} for the label; repeatable. `imagenet` stands for CLIP's 80 ImageNet templates. "
            "[default: a few that suit photographs]",
        ),
    ] = None,
    k: Annotated[int | None, option("N", "Show the best N. [default: 3, all in JSON]", "-k", min=1)] = None,
    model: ModelName = None,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Classify images into labels of your choice.

    \b
    Examples:
      multimodal classify cat.jpg --labels cat,dog,horse
      multimodal classify photos/ --labels @labels.txt -k 5 --json
      multimodal classify "photos/**/*.jpg" --labels day,night --templates "a photo taken at {}"
      multimodal classify cat.jpg --labels cat,dog --model ViT-B-32:laion2b_s34b_b79k
    """
    names, sources = read_labels(labels), options.given(images)
    chosen = None if not templates else "imagenet" if templates == ["imagenet"] else templates
    results = options.open_model(model, device).classify(sources, names, chosen, k if as_json else k or 3)
    return show(results, images, as_json, label_rows, console.TEXT, {}, console.NUMBER)


def caption(
    images: Images, strategy: Strategy = "greedy", model: ModelName = None, device: Device = None, as_json: Json = False
) -> int:
    """Write a sentence about each image.

    \b
    Examples:
      multimodal caption cat.jpg
      multimodal caption photos/ --strategy beam,num_beams=4 --json
      multimodal caption cat.jpg --model Salesforce/blip-image-captioning-base
    """
    decoding, sources = mm.generation.parse_strategy(strategy), options.given(images)
    results = options.open_model(model, device).caption(sources, strategy=decoding)
    return show(results, images, as_json, lambda each: [(each.item.name, each.text)], {})


def ask(
    image: Image,
    question: Annotated[str, argument("QUESTION", "In words.")],
    strategy: Strategy = "greedy",
    model: ModelName = None,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Answer a question about each image.

    It needs a model that can answer: `multimodal models --can answer`.

    \b
    Examples:
      multimodal ask cat.jpg "what colour is the cat?" --model Salesforce/blip-vqa-base
    """
    decoding, sources = mm.generation.parse_strategy(strategy), options.given([image])
    results = options.open_model(model, device).answer(sources, question, strategy=decoding)
    return show(results, [image], as_json, lambda each: [(each.item.name, each.text)], {})


def match(image: Image, text: Text, model: ModelName = None, device: Device = None, as_json: Json = False) -> int:
    """Print the probability that a text describes each image.

    It needs a model that can match: `multimodal models --can match`.

    \b
    Examples:
      multimodal match photos/ "a cat on a couch" --model Salesforce/blip-itm-base-coco
    """
    results = options.open_model(model, device).match(options.given([image]), text)
    return show(results, [image], as_json, lambda each: [(each.item.name, f"{each.score:.1%}")], {})


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
    network = options.open_model(model, device)
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
    with mm.Index.open(path, options.open_model(model, device)) as opened:
        hits = opened.search(Path(query) if image else query, k, rerank)
    if not hits and not as_json:
        console.complain(f"{path} is empty")
    console.show_results(hits, as_json, lambda hit: [(f"{hit.score:.3f}", hit.path)], {}, console.NAME)


def embed(
    images: Images,
    out: Annotated[Path, option("FILE", "The .npz file to write.", dir_okay=False)],
    model: ModelName = None,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Write embeddings to a NumPy file.

    It holds `embeddings` (float32 [N, D], rows of unit length), `names` [N], `model` and `fingerprint`:
    embeddings with equal fingerprints are comparable.

    \b
    Examples:
      multimodal embed photos/ --out photos.npz
      multimodal embed cat.jpg dog.jpg --out two.npz --json
    """
    import numpy as np

    sources, network = options.given(images), options.open_model(model, device)
    embedded = mm.tasks.embed_named(network, sources)
    code = options.exit_code(images, embedded.rejected, len(embedded.names))
    source: dict[str, Any] = {"model": network.name, "fingerprint": network.fingerprint}
    with atomic_write(out) as file:
        np.savez(file, embeddings=embedded.embeddings.numpy(), names=np.array(embedded.names), **source)
    count, dim = embedded.embeddings.shape
    facts = {"out": str(out), "embedded": count, "dim": dim, **source}
    facts["rejected"] = [item.to_dict() for item in embedded.rejected]
    console.show(as_json, facts, f"{out}: {count} embeddings of {dim} dimensions, made with {network.name}")
    return code


def show(
    results: "mm.Results[Any]", images: list[str], as_json: bool, rows: Callable[[Any], console.Rows], *columns: Any
) -> int:
    """Print the results, in a table with the image names first, and return the exit code."""
    code = options.exit_code(images, results.rejected, len(results))
    console.show_results(results, as_json, rows, console.NAME, *columns)
    return code


def read_labels(text: str) -> list[str]:
    """The labels of `a,b,c`, or the lines of the file in `@FILE`."""
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{text[1:]}: expected UTF-8 text, got {error}") from error
        return [line.strip() for line in lines if line.strip()]
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise ValueError(f"labels: expected names separated by commas, got {text!r}")
    return names


def label_rows(result: "mm.Classification") -> console.Rows:
    for place, (label, score) in enumerate(result.scores.items()):
        yield result.item.name if place == 0 else "", label, console.bar(score), f"{score:.1%}"


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
    return sources._replace(items=[sources.items[i] for i in places], names=[sources.names[i] for i in places])
