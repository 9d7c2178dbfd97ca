"""classify, caption, ask, match, embed: one result per image."""

from pathlib import Path
from typing import Annotated

import typer

import multimodal as mm
from multimodal.cli import console, options
from multimodal.cli.options import AsJson, Device, Image, Images, ModelName, Strategy, argument, option
from multimodal.files import atomic_write


def classify(
    images: Images,
    labels: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", help="What the images may show; @FILE reads the labels from a file, one per line."
        ),
    ],
    templates: Annotated[
        list[str] | None,
        option(
            metavar="TEXT",
            help="A sentence with {} for the label; repeatable. `imagenet` stands for CLIP's 80 ImageNet "
            "templates. [default: a few that suit photographs]",
        ),
    ] = None,
    k: Annotated[
        int | None, option("-k", min=1, metavar="N", help="Show the best N. [default: 3, all in JSON]")
    ] = None,
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Classify images into labels of your choice.

    \b
    Examples:
      multimodal classify cat.jpg --labels cat,dog,horse
      multimodal classify photos/ --labels @labels.txt -k 5 --json
      multimodal classify "photos/**/*.jpg" --labels day,night --templates "a photo taken at {}"
      multimodal classify cat.jpg --labels cat,dog --model ViT-B-32:laion2b_s34b_b79k
    """
    names, asked = read_labels(labels), options.given(images)
    network = options.open_model(model, device)
    chosen = None if not templates else "imagenet" if templates == ["imagenet"] else templates
    results = network.classify(asked.sources, names, chosen, k if as_json else k or 3)
    return asked.show(results, as_json, label_rows, console.TEXT, {}, console.NUMBER)


def caption(
    images: Images,
    strategy: Strategy = "greedy",
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Write a sentence about each image.

    \b
    Examples:
      multimodal caption cat.jpg
      multimodal caption photos/ --strategy beam,num_beams=4 --json
      multimodal caption cat.jpg --model Salesforce/blip-image-captioning-base
    """
    decoding, asked = mm.generation.parse_strategy(strategy), options.given(images)
    results = options.open_model(model, device).caption(asked.sources, strategy=decoding)
    return asked.show(results, as_json, lambda each: [(each.item.name, each.text)], {})


def ask(
    image: Image,
    question: Annotated[str, argument("QUESTION", "In words.")],
    strategy: Strategy = "greedy",
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Answer a question about each image.

    It needs a model that can answer: `multimodal models --can answer`.

    \b
    Examples:
      multimodal ask cat.jpg "what colour is the cat?" --model Salesforce/blip-vqa-base
    """
    decoding, asked = mm.generation.parse_strategy(strategy), options.given([image])
    sources = asked.sources._replace(single=False)
    results = options.open_model(model, device).answer(sources, question, strategy=decoding)
    return asked.show(results, as_json, lambda each: [(each.item.name, each.text)], {})


def match(
    image: Image,
    text: Annotated[str, argument("TEXT", "A description.")],
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Print the probability that a text describes each image.

    It needs a model that can match: `multimodal models --can match`.

    \b
    Examples:
      multimodal match photos/ "a cat on a couch" --model Salesforce/blip-itm-base-coco
    """
    asked = options.given([image])
    results = options.open_model(model, device).match(asked.sources._replace(single=False), text)
    return asked.show(results, as_json, lambda each: [(each.item.name, f"{each.score:.1%}")], {})


def embed(
    images: Images,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .npz file to write.")],
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
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

    if out.is_dir():
        raise ValueError(f"out: expected a file to write, got {out}, which is a folder")
    asked = options.given(images)
    network = options.open_model(model, device)
    embedded = mm.tasks.embed_named(network, asked.sources)
    code = asked.code(embedded.rejected, len(embedded.names))
    with atomic_write(out) as file:
        np.savez(
            file,
            embeddings=embedded.embeddings.numpy(),
            names=np.array(embedded.names),
            model=np.array(network.name),
            fingerprint=np.array(network.fingerprint),
        )
    count, dim = embedded.embeddings.shape
    if as_json:
        facts = {"out": str(out), "embedded": count, "dim": dim, "model": network.name}
        rejected = [item.to_dict() for item in embedded.rejected]
        console.say_json(facts | {"fingerprint": network.fingerprint, "rejected": rejected})
    else:
        console.say(f"{out}: {count} embeddings of {dim} dimensions, made with {network.name}")
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
