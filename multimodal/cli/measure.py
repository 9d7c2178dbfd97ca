"""evaluate: the figures of a model, and its card."""

from pathlib import Path
from typing import Annotated

import typer

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.options import AsJson, Device, argument, open_model, option


def evaluate(
    model: Annotated[str, argument("MODEL", "A name that `multimodal models` lists, or a folder.")],
    data: Annotated[Path, typer.Option(metavar="ROOT", help="The folder with the validation sets.")],
    strategy: Annotated[
        list[str] | None,
        option(
            metavar="KIND,KEY=VALUE,...",
            help="How to decode captions; repeatable. [default: greedy and beam,num_beams=3]",
        ),
    ] = None,
    limit: Annotated[int | None, option(min=1, metavar="N", help="At most N images of each set.")] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Write figures, charts and speed into the card of MODEL, a folder.")
    ] = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on the validation sets under ROOT.

    Zero-shot classification, search in both directions and captions on tiny-imagenet/val, rsicd/val,
    cifar10/test and flickr8k/val; missing sets are skipped.

    \b
    Examples:
      multimodal evaluate small --data ~/data
      multimodal evaluate runs/mine --data ~/data --limit 200 --strategy greedy
      multimodal evaluate small --data ~/data --strategy greedy --strategy beam,num_beams=5
      multimodal evaluate runs/mine --data ~/data --card
    """
    strategies = [mm.generation.parse_strategy(text) for text in strategy or ("greedy", "beam,num_beams=3")]
    folder = Path(model)
    if card and not (folder / "config.json").is_file():
        raise ValueError(f"card: expected MODEL to be a model folder, got {model!r}")
    # The resolved path is never taken for the name of a listed model: the card must go to the measured one.
    network = open_model(str(folder.resolve()) if card else model, device)
    report = mm.evaluation.evaluate_model(network, data, limit, strategies)
    console.name_rejected(report.rejected)
    if card:
        entries, charts = mm.evaluation.evaluation_card(network, report)
        mm.zoo.update_card(folder, network.card | entries, charts)
    if as_json:
        console.say_json({"model": network.name, **report.to_dict()})
    elif console.on_terminal():
        columns = {"header": "dataset"}, {"header": "measure"}
        numbers = {"header": "value", **console.NUMBER}, {"header": "n", **console.NUMBER}
        console.show_table((row.cells() for row in report.rows), *columns, *numbers)
    else:
        for line in str(mm.evaluation.Report(report.rows)).splitlines():
            console.say(line)
