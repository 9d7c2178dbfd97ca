"""Everything a stopped run needs to go on as if it had not stopped: one safetensors file, written atomically."""

import json
from pathlib import Path

import torch
from torch import Tensor

from multimodal.files import atomic_write
from multimodal.training.precision import MasterWeights


def save_state(
    path: Path, step: int, fingerprint: str, masters: MasterWeights, optimizer: torch.optim.Optimizer
) -> None:
    """Weights in float32, moments of the optimizer and the number of steps done."""
    from safetensors.torch import save

    tensors = {f"master.{name}": tensor for name, tensor in masters.state().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as file:
        file.write(save(tensors, {"run": json.dumps({"step": step, "fingerprint": fingerprint})}))


def load_state(
    path: Path, fingerprint: str, masters: MasterWeights, optimizer: torch.optim.Optimizer
) -> int:
    """Put the state back and return the number of steps done; a state of another run is a ValueError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            run = json.loads(file.metadata()["run"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected the state of a run, got {error}") from error
    if run["fingerprint"] != fingerprint:
        raise ValueError(
            f"{path}: expected the state of run {fingerprint}, got that of {run['fingerprint']}: the run file "
            "has changed since; train into another folder"
        )
    masters.load_state(_under("master.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, key = name.split(".")
        moments.setdefault(int(index), {})[key] = tensor
    state = optimizer.state_dict()
    optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
    return int(run["step"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
