"""The training loop.

A step is a pure function of the run file and its number: the batch, the augmentation and the dropout of step n
are the same whether the run was stopped before or not, on one rank or on many.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from multimodal.datasets import Batch, Mixture, open_source
from multimodal.distributed import mean_over_ranks, process_group, rank, world_size
from multimodal.model import Model
from multimodal.models import Network, NetworkConfig, build
from multimodal.preprocess import BPETokenizer, ClipTokenizer, ImageTransform, Tokenizer
from multimodal.training.config import RunConfig
from multimodal.training.log import MetricsLog, draw_curves
from multimodal.training.memory import keep_freed_memory
from multimodal.training.objectives import Objective
from multimodal.training.optimizer import learning_rate, make_optimizer
from multimodal.training.parallel import parallel
from multimodal.training.precision import MasterWeights, choose_dtype
from multimodal.training.state import load_state, save_state
from multimodal.zoo import load_folder, put_weights, save_folder

Evaluate = Callable[[Model], dict[str, float]]


class TrainingError(RuntimeError):
    """Training cannot go on: the loss or its gradient is not finite."""


def train(
    config: RunConfig,
    out: str | Path,
    root: str | Path = ".",
    *,
    resume: bool = False,
    device: torch.device | None = None,
    evaluate: Evaluate | None = None,
) -> Path:
    """Train what `config` describes and return the model folder `out`.

    root: where the paths of the data begin; resume: go on from `out`, or start where there is nothing yet;
    evaluate: called with a `Model` each `evaluate_every` steps and at the end -> figures by name.
    Under torchrun every rank calls this. Raises TrainingError, naming step and samples, before a step that
    is not finite, ValueError where `out` holds another run.
    """
    out, device = Path(out), device or torch.device("cpu")
    if (out / "state.safetensors").exists() and not resume:
        raise ValueError(f"{out}: expected a new folder, got one with a run in it; resume it or choose another")
    keep_freed_memory()
    with process_group(device):
        return Run(config, out, Path(root), device, evaluate).train(resume)


class Run:
    """One training run on one rank."""

    def __init__(
        self, config: RunConfig, out: Path, root: Path, device: torch.device, evaluate: Evaluate | None
    ) -> None:
        if config.batch_size % world_size():
            raise ValueError(
                f"batch_size: expected a multiple of {world_size()} ranks, got {config.batch_size}"
            )
        self.config, self.out, self.device, self.evaluate = config, out, device, evaluate
        start = None
        if config.start_from is not None:
            start = load_folder(config.start_from, torch.device("cpu"), torch.float32)
        self.tokenizer = start.tokenizer if start is not None else make_tokenizer(config, root)
        self.network_config = with_tokenizer(config.model, self.tokenizer)
        size = self.network_config.image.image_size
        self.transform = ImageTransform(size)
        self.mixture = Mixture(
            config.data,
            root,
            self.tokenizer,
            image_size=size,
            cache_size=config.cache_size or size * 9 // 8,
            batch_size=config.batch_size,
            seed=config.seed,
            rank=rank(),
            world_size=world_size(),
        )
        torch.manual_seed(config.seed)
        self.network: Network = build(self.network_config)
        if start is not None:
            put_weights(self.network, dict(start.network.named_parameters()), partial=True)
        objective = Objective(
            self.network,
            config.objective,
            self.tokenizer.eos_id,
            len(self.mixture.label_names),
            self.network_config.embed_dim,
        )
        freeze(self.network, config.freeze)
        self.dtype = choose_dtype(config.precision, device)
        self.masters = None
        objective.to(device)
        trained = [p for p in objective.parameters() if p.requires_grad]
        self.masters = MasterWeights.of(objective, trained, self.dtype)
        self.optimizer = make_optimizer(self.masters.masters, config.optimizer)
        self.objective = parallel(objective, device)
        self.mean = torch.tensor(self.transform.mean, device=device)[:, None, None]  # [3, 1, 1]
        self.std = torch.tensor(self.transform.std, device=device)[:, None, None]
