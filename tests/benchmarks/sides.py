"""Shared by the benchmarks: the same weights on both sides, measured in turn."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

import multimodal
from multimodal import Model


def both(architecture: str, device: str | None = None) -> tuple[Model, Any, Any]:
    """Our model, theirs and their image transform, with equal random weights in the dtype that is fast here."""
    torch.manual_seed(0)
    peer, _, preprocess = open_clip.create_model_and_transforms(architecture)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({key: value.contiguous() for key, value in peer.state_dict().items()}, path)
        model = multimodal.load(architecture, weights=path, device=device)
    return model, peer.eval().to(model.device, model.dtype), preprocess


def in_turn(
    sides: dict[str, Callable[[], object]], rounds: int, device: torch.device, warm: bool = False
) -> dict[str, list[float]]:
    """Seconds of each side in each round, after a round of warm-up unless everything is `warm`."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm, rounds + 1):
        for name, work in sides.items():
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ratio(seconds: dict[str, list[float]], ours: str, theirs: str) -> str:
    """The speed of ours relative to theirs: median, minimum and maximum over the rounds."""
    ratios = [b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    return f"{statistics.median(ratios):.2f} x {theirs} ({min(ratios):.2f} to {max(ratios):.2f})"


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """The minimum over the rows."""
    return torch.nn.functional.cosine_similarity(a.float().cpu(), b.float().cpu(), dim=-1).min().item()
