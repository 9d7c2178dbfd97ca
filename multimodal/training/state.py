"""The files of a run: its log, and one safetensors file with all that it needs to continue as if it had not stopped."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from torch.optim import Optimizer

from multimodal.evaluation.charts import curves_chart
from multimodal.files import atomic_write, write_text
from multimodal.training.optimizer import MasterWeights


class MetricsLog:
    """`metrics.jsonl`: rows with `step`, appended one by one; a resumed run drops the rows that it will repeat."""

    def __init__(self, path: Path, from_step: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        for line in path.read_text(encoding="utf-8").splitlines() if from_step and path.is_file() else []:
            with suppress(json.JSONDecodeError):  # the last line of a killed run may be cut
                self.rows.append(json.loads(line))
        self.rows = [row for row in self.rows if row["step"] <= from_step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def draw(self) -> None:
        """Write the curves beside the log."""
        with atomic_write(self.path.with_name("curves.png")) as file:
            file.write(curves_chart(self.rows))


class Progress(NamedTuple):
    """How far a run is."""

    step: int = 0  # steps done
    seconds: float = 0.0  # of training so far, evaluation and start included


def save_state(path: Path, progress: Progress, fingerprint: str, masters: MasterWeights, optimizer: Optimizer) -> None:
    """Write the weights in float32, the moments of the optimizer and the progress. `fingerprint` identifies the run."""
    tensors = {f"master.{name}": tensor for name, tensor in masters.state().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    run = {"fingerprint": fingerprint, **progress._asdict()}
    with atomic_write(path) as file:
        file.write(save(tensors, {"run": json.dumps(run)}))


def load_progress(path: Path, fingerprint: str) -> Progress:
    """How far the run of this state is. Raises ValueError for the state of another run, and for any other file."""
    try:
        with safe_open(str(path), "pt") as file:
            run = json.loads(file.metadata()["run"])
        progress, found = Progress(int(run["step"]), float(run["seconds"])), run["fingerprint"]
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected the state of a run, got {error}") from error
    if found != fingerprint:
        raise ValueError(
            f"{path}: expected the state of run {fingerprint}, got run {found}: the run file has changed since; "
            "train into another folder"
        )
    return progress


def load_state(path: Path, masters: MasterWeights, optimizer: Optimizer | None) -> None:
    """Restore the weights and, if an optimizer is given, its moments."""
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_file(path).items():
        kind, key = name.split(".", 1)
        if kind == "master":
            weights[key] = tensor
        else:
            index, key = key.split(".")
            moments.setdefault(int(index), {})[key] = tensor
    masters.load_state(weights)
    if optimizer is not None:
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
