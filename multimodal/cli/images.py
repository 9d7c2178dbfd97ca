"""classify, caption, embed: pictures in, an answer for each out."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.bar import Bar
from rich.table import Table

from multimodal.cli import console
from multimodal.cli.options import AsJson, Device, ModelName, Pictures, given, open_model
from multimodal.files import atomic_write
from multimodal.preprocess import printable
from multimodal.results import Caption, Classification
from multimodal.tasks import embed_named_images


def classify(
    images: Pictures,
    labels: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="What the pictures may show; @FILE reads the labels from a file, one a line.",
        ),
    ],
    templates: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            show_default=False,
            help="A sentence with {} for the label; may be given several times. "
            "`imagenet` stands for the 80 that CLIP was measured with. [default: a few that suit photographs]",
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", min=1, metavar="N", show_default=False, help="Show the best N. [default: 3, all in JSON]"
        ),
    ] = None,
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Say which label suits each picture.

    \b
    Examples:
      multimodal classify cat.jpg --labels cat,dog,horse
      multimodal classify photos/ --labels @labels.txt -k 5 --json
      multimodal classify "photos/**/*.jpg" --labels day,night --templates "a photo taken at {}"
      multimodal classify cat.jpg --labels cat,dog --model ViT-B-32:laion2b_s34b_b79k
    """
    names, pictures = read_labels(labels), given(images)
    network = open_model(model, device)
    chosen = None if not templates else "imagenet" if templates == ["imagenet"] else templates
    results = network.classify(pictures.sources, names, chosen, k if as_json else k or 3)
    code = pictures.code(results.rejected, len(results))
    console.show_results(results, as_json, classification_table(results))
    return code


def caption(
    images: Pictures,
    beams: Annotated[
        int, typer.Option(min=1, metavar="N", help="Sentences followed at a time; 1 is the fastest.")
    ] = 1,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default=False, help="Cut a sentence there.")
    ] = None,
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Write a sentence about each picture.

    \b
    Examples:
      multimodal caption cat.jpg
      multimodal caption photos/ --beams 4 --json
      multimodal caption cat.jpg --model Salesforce/blip-image-captioning-base
    """
    pictures = given(images)
    results = open_model(model, device).caption(pictures.sources, beams, max_tokens)
    code = pictures.code(results.rejected, len(results))
    console.show_results(results, as_json, caption_table(results))
    return code


def embed(
    images: Pictures,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .npz file to write.")],
    model: ModelName = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Write embeddings to a NumPy file.

    It holds `embeddings` (float32 [N, D], rows of unit length), `names` [N], `model` and `fingerprint`:
    embeddings with equal fingerprints compare.

    \b
    Examples:
      multimodal embed photos/ --out photos.npz
      multimodal embed cat.jpg dog.jpg --out two.npz --json
    """
    if out.is_dir():
        raise ValueError(f"out: expected a file to write, got {out}, which is a folder")
    pictures = given(images)
    network = open_model(model, device)
    embedded = embed_named_images(network, pictures.sources)
    code = pictures.code(embedded.rejected, len(embedded.names))
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
        console.say_json(
            {
                "out": str(out),
                "embedded": count,
                "dim": dim,
                "model": network.name,
                "fingerprint": network.fingerprint,
                "rejected": [item.to_dict() for item in embedded.rejected],
            }
        )
    else:
        console.say(f"{out}: {count} embeddings of {dim} dimensions, made with {network.name}")
    return code


def read_labels(text: str) -> list[str]:
    """From `a,b,c`, or from the lines of the file in `@FILE`."""
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{text[1:]}: expected UTF-8 text, got {error}") from error
        return [line.strip() for line in lines if line.strip()]
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise ValueError(f"labels: expected names with commas between them, got {text!r}")
    return names


def classification_table(results: list[Classification]) -> Table:
    table = Table.grid("", "", "", "", padding=(0, 2, 0, 0), expand=True)
    for column, ratio in zip(table.columns, (6, 4, 5, None), strict=True):
        column.ratio, column.overflow = ratio, "fold"
    for result in results:
        for place, (name, score) in enumerate(result.scores.items()):
            table.add_row(
                printable(result.item.name) if place == 0 else "",
                printable(name),
                Bar(1, 0, score, color="cyan" if place == 0 else "bright_black"),
                f"{score:.1%}",
                style="bold" if place == 0 else "dim",
                end_section=place == len(result.scores) - 1,
            )
    return table


def caption_table(results: list[Caption]) -> Table:
    table = Table.grid("", "", padding=(0, 2, 0, 0))
    table.columns[0].overflow, table.columns[0].style = "fold", "cyan"
    for result in results:
        table.add_row(printable(result.item.name), printable(result.text))
    return table
