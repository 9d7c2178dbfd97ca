"""shapes, train, evaluate: a data set, a model trained on one, and its figures."""

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.options import FOLDER, LISTED, Device, Json, argument, device_of, flag, open_model, option


def shapes(
    out: Annotated[Path, option("DIR", "The folder to write, with train/ and val/.")],
    train: Annotated[int, option("N", "Training images.", min=1)] = 2000,
    val: Annotated[int, option("N", "Validation images.", min=1)] = 200,
    seed: Annotated[int, option("N", "The random seed.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Draw a small data set to train on.

    Coloured shapes with captions; nothing is downloaded.

    \b
    Examples:
      multimodal shapes --out shapes
      multimodal train data/recipes/shapes.toml --data shapes
    """
    drawn = mm.datasets.draw_shapes(out, train, val, seed, progress=sys.stderr.isatty())
    console.show(as_json, drawn.to_dict(), str(drawn))


def train(
    run: Annotated[Path, argument("RUN.toml", "The file that describes the run.")],
    out: Annotated[
        Path | None,
        option(
            "DIR", "The folder to write: a model and its log. [default: runs/NAME, the run's name]", file_okay=False
        ),
    ] = None,
    resume: Annotated[bool, flag("--resume", "Continue the run in DIR; if it has none, start a new one.")] = False,
    data: Annotated[Path, option("ROOT", "The root of all data paths.", **FOLDER)] = Path("."),
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Train a model from a run file.

    DIR becomes a model folder for `--model`, with metrics.jsonl and curves.png next to the weights. --resume
    continues a run that was stopped.

    \b
    Examples:
      multimodal train data/recipes/shapes.toml --data shapes
      multimodal train run.toml --data ~/data --out mine --resume
      torchrun --nproc-per-node 2 -m multimodal.cli train run.toml --data ~/data
    """
    config, chosen = mm.training.read_run(run), device_of(device)
    out = Path("runs") / config.name if out is None else out
    first = os.environ.get("RANK", "0") == "0"  # set by torchrun
    sets = config.validation if first else ()
    evaluate = mm.evaluation.Validation(sets, data, config.suffixes) if sets else None
    try:
        with redirect_stdout(sys.stderr):  # progress is not a result
            mm.training.train(config, out, data, resume=resume, device=chosen, evaluate=evaluate)
    except KeyboardInterrupt:
        console.complain("stopped; --resume continues from the last checkpoint")
        raise
    if first:
        card = json.loads((out / "config.json").read_text(encoding="utf-8"))["card"]
        facts = {"model": str(out), "figures": card["figures"], "training": card["training"]}
        figures = mm.metrics.read_measures(card["figures"])
        lines = [f"{each.dataset}: {each.name} {each.shown}" for each in figures]
        console.show(as_json, facts, *lines, f"{out}: trained; use it with --model {out}")


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
