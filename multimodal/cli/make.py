"""shapes, train: data, and a model from it."""

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.cli import console
from multimodal.cli.options import AsJson, Device, device_of
from multimodal.datasets import draw_shapes
from multimodal.evaluation import Measure, Validation
from multimodal.training import read_run
from multimodal.training import train as run_training


def shapes(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, with train/ and val/.")],
    train: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures to train on.")] = 2000,
    val: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures to measure with.")] = 200,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another number, other pictures.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw a small data set to train on.

    Coloured shapes with captions; nothing is downloaded.

    \b
    Examples:
      multimodal shapes --out shapes
      multimodal train data/recipes/shapes.toml --data shapes
    """
    drawn = draw_shapes(out, train, val, seed, progress=sys.stderr.isatty())
    if as_json:
        console.say_json(drawn.to_dict())
    else:
        console.say(str(drawn))


def train(
    run: Annotated[
        Path, typer.Argument(metavar="RUN.toml", show_default=False, help="The file that describes the run.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="The folder to write: a model, and its log. [default: runs/NAME, the run's name]",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where DIR stopped; start where there is nothing yet.")
    ] = False,
    data: Annotated[
        Path,
        typer.Option(
            metavar="ROOT", show_default=False, help="Where the paths of the data begin. [default: here]"
        ),
    ] = Path("."),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Train a model from a run file.

    DIR is then a model folder for `--model`, with metrics.jsonl and curves.png beside the weights. A run
    that was stopped goes on with --resume.

    \b
    Examples:
      multimodal train data/recipes/shapes.toml --data shapes
      multimodal train run.toml --data ~/data --out mine --resume
      torchrun --nproc-per-node 2 -m multimodal.cli train run.toml --data ~/data
    """
    config, chosen = read_run(run), device_of(device)
    out = Path("runs") / config.name if out is None else out
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder to write, got {out}, which is a file")
    if not data.is_dir():
        raise FileNotFoundError(f"data: expected a folder, got {data}, which is not there")
    first = os.environ.get("RANK", "0") == "0"  # torchrun says so
    evaluate = Validation(config.validation, data) if first and config.validation else None
    try:
        with redirect_stdout(sys.stderr):  # what a run tells on its way
            run_training(config, out, data, resume=resume, device=chosen, evaluate=evaluate)
    except KeyboardInterrupt:
        console.complain("stopped; --resume goes on from the last checkpoint")
        raise
    if not first:
        return
    card = json.loads((out / "config.json").read_text(encoding="utf-8"))["card"]
    if as_json:
        console.say_json({"model": str(out), "figures": card["figures"], "training": card["training"]})
        return
    for key, value in card["figures"].items():
        console.say(f"{key}: {shown_figure(key, value)}")
    console.say(f"{out}: trained; use it with --model {out}")


def shown_figure(key: str, value: Any) -> str:
    """A figure of a model card as people write it: `dataset/measure` says of which kind it is."""
    dataset, _, measure = key.rpartition("/")
    return Measure(dataset, measure, value, 0).shown
