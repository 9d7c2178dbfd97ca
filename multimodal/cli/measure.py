"""evaluate: the figures of a model, and its card."""

from pathlib import Path
from typing import Annotated

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.options import LISTED, Device, Json, argument, flag, open_model, option


def evaluate(
    model: Annotated[str, argument("MODEL", f"{LISTED}, or a folder.")],
    data: Annotated[Path, option("ROOT", "The folder with the validation sets.")],
    strategy: Annotated[
        list[str] | None,
        option("KIND,KEY=VALUE,...", "How to decode captions; repeatable. [default: greedy and beam,num_beams=3]"),
    ] = None,
    limit: Annotated[int | None, option("N", "At most N images of each set.", min=1)] = None,
    card: Annotated[bool, flag("--card", "Write figures, charts and speed into the card of MODEL, a folder.")] = False,
    device: Device = None,
    as_json: Json = False,
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
    lines = str(mm.evaluation.Report(report.rows)).splitlines()
    console.show(as_json, {"model": network.name, **report.to_dict()}, *lines)
