"""Everything that a stopped run needs to continue as if it had not stopped: one safetensors file."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from multimodal.files import atomic_write
from multimodal.training.precision import MasterWeights


class Progress(NamedTuple):
    """How far a run is."""

    step: int = 0  # steps done
    seconds: float = 0.0  # of training so far, evaluation and start included


def save_state(
    path: Path, progress: Progress, fingerprint: str, masters: MasterWeights, optimizer: torch.optim.Optimizer
) -> None:
    """Write the weights in float32, the moments of the optimizer and the progress. `fingerprint` identifies the run."""
    from safetensors.torch import save

    tensors = {f"master.{name}": tensor for name, tensor in masters.state().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    run = {"fingerprint": fingerprint, **progress._asdict()}
    with atomic_write(path) as file:
        file.write(save(tensors, {"run": json.dumps(run)}))


def load_progress(path: Path, fingerprint: str) -> Progress:
    """How far the run of this state is. Raises ValueError for the state of another run, and for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            run = json.loads(file.metadata()["run"])
        progress = Progress(int(run["step"]), float(run["seconds"]))
        found = run["fingerprint"]
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected the state of a run, got {error}") from error
    if found != fingerprint:
        raise ValueError(
            f"{path}: expected the state of run {fingerprint}, got run {found}: the run file has changed since; "
            "train into another folder"
        )
    return progress


def load_state(path: Path, masters: MasterWeights, optimizer: torch.optim.Optimizer | None) -> None:
    """Restore the weights and, if an optimizer is given, its moments."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    masters.load_state(_under("master.", tensors))
    if optimizer is None:
        return
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, key = name.split(".")
        moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
