"""classify, caption, ask, match, embed: one result per image."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import multimodal as mm
from multimodal.cli import console, options
from multimodal.cli.options import Device, Image, Images, Json, ModelName, Strategy, argument, option
from multimodal.files import atomic_write


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


def match(
    image: Image,
    text: Annotated[str, argument("TEXT", "A description.")],
    model: ModelName = None,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Print the probability that a text describes each image.

    It needs a model that can match: `multimodal models --can match`.

    \b
    Examples:
      multimodal match photos/ "a cat on a couch" --model Salesforce/blip-itm-base-coco
    """
    results = options.open_model(model, device).match(options.given([image]), text)
    return show(results, [image], as_json, lambda each: [(each.item.name, f"{each.score:.1%}")], {})


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
