"""shapes, train: a data set, and a model trained on one."""

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.options import AsJson, Device, argument, device_of, option


def shapes(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, with train/ and val/.")],
    train: Annotated[int, typer.Option(min=1, metavar="N", help="Training images.")] = 2000,
    val: Annotated[int, typer.Option(min=1, metavar="N", help="Validation images.")] = 200,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The random seed.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw a small data set to train on.

    Coloured shapes with captions; nothing is downloaded.

    \b
    Examples:
      multimodal shapes --out shapes
      multimodal train data/recipes/shapes.toml --data shapes
    """
    drawn = mm.datasets.draw_shapes(out, train, val, seed, progress=sys.stderr.isatty())
    if as_json:
        console.say_json(drawn.to_dict())
    else:
        console.say(str(drawn))


def train(
    run: Annotated[Path, argument("RUN.toml", "The file that describes the run.")],
    out: Annotated[
        Path | None,
        option(metavar="DIR", help="The folder to write: a model and its log. [default: runs/NAME, the run's name]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in DIR, or start it if there is none.")
    ] = False,
    data: Annotated[Path, option(metavar="ROOT", help="The root of all data paths. [default: .]")] = Path("."),
    device: Device = None,
    as_json: AsJson = False,
) -> int:
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
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder to write, got {out}, which is a file")
    if not data.is_dir():
        raise FileNotFoundError(f"data: expected a folder, got {data}, which does not exist")
    first = os.environ.get("RANK", "0") == "0"  # set by torchrun
    evaluate = (
        mm.evaluation.Validation(config.validation, data, config.suffixes) if first and config.validation else None
    )
    try:
        with redirect_stdout(sys.stderr):  # progress is not a result
            mm.training.train(config, out, data, resume=resume, device=chosen, evaluate=evaluate)
    except KeyboardInterrupt:
        console.complain("stopped; --resume continues from the last checkpoint")
        raise
    except mm.training.TrainingError as error:
        console.complain(str(error))
        return 1
    if not first:
        return 0
    card = json.loads((out / "config.json").read_text(encoding="utf-8"))["card"]
    if as_json:
        console.say_json({"model": str(out), "figures": card["figures"], "training": card["training"]})
        return 0
    for measure in mm.metrics.read_measures(card["figures"]):
        console.say(f"{measure.dataset}: {measure.name} {measure.shown}")
    console.say(f"{out}: trained; use it with --model {out}")
    return 0
