"""The training loop.

A step is a pure function of the run file, its number and the weights: batch, augmentation and dropout of
step n are the same whether or not the run was stopped before.
"""

import ctypes
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from multimodal.config import to_dict
from multimodal.datasets import Batch, Mixture
from multimodal.distributed import barrier, mean_over_ranks, process_group, rank, world_size
from multimodal.evaluation import Report
from multimodal.files import clear_leftovers
from multimodal.model import Model
from multimodal.models import MAX_LOGIT_SCALE
from multimodal.training.config import RunConfig, Stage
from multimodal.training.objectives import Objective, TermData
from multimodal.training.optimizer import MasterWeights, hidden_matrices, learning_rate, make_optimizer
from multimodal.training.start import make_inputs, make_network, make_tokenizer, open_start, run_fingerprint
from multimodal.training.state import MetricsLog, Progress, load_progress, load_state, save_state
from multimodal.zoo import choose_device, fast_dtype, load_folder, save_folder, update_card
from multimodal.zoo.save import KEPT_KEYS

Evaluate = Callable[[Model], Report]
STATE = "state.safetensors"
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc


class TrainingError(ValueError):
    """Training cannot continue: the loss or its gradient is not finite."""


def train(
    config: RunConfig,
    out: str | Path,
    root: str | Path = ".",
    *,
    resume: bool = False,
    device: str | torch.device | None = None,
    evaluate: Evaluate | None = None,
) -> Path:
    """Train what `config` describes and return `out`, which is then a model folder.

    root: the folder that the paths of the data are relative to.
    resume: continue the run in `out`; a folder without a run starts a new one.
    evaluate: called with the model every `evaluate_every` steps and at the end; a `Validation`, for example.

    `out` also holds metrics.jsonl, curves.png and the state of the run. Under torchrun every rank calls this.
    Raises TrainingError, with step and samples, before a step that is not finite, and ValueError if `out` holds
    another run.
    """
    out = Path(out)
    if (out / STATE).exists() and not resume:
        raise ValueError(f"{out}: expected a new folder, got one with a run in it; resume it or choose another")
    keep_freed_memory()
    chosen = choose_device(device)
    with process_group(chosen):
        Run(config, out, Path(root), chosen, evaluate).go()
    return out


class Run:
    """One run, on one rank."""

    def __init__(
        self, config: RunConfig, out: Path, root: Path, device: torch.device, evaluate: Evaluate | None
    ) -> None:
        self.fingerprint = run_fingerprint(config)
        if rank() == 0:
            out.mkdir(parents=True, exist_ok=True)
            clear_leftovers(out)
        resume = (out / STATE).exists()
        config, start = open_start(config)
        self.config, self.out, self.device, self.evaluate = config, out, device, evaluate
        self.inputs = make_inputs(config, start, out)
        self.plan = config.plan()
        self.total = self.plan[-1].end  # steps
        first = self.plan[0]
        cache_size = config.cache_size or (config.image_size or 1) * 9 // 8
        self.mixture = Mixture(
            config.data, root, self.inputs, image_size=first.image_size or 1, cache_size=cache_size,
            batch_size=first.batch_size, seed=config.seed, rank=rank(), world_size=world_size(), progress=rank() == 0,
        )  # fmt: skip
        if rank() == 0:
            print(self.mixture.summary())
        self.tokenizer = make_tokenizer(config, start, self.mixture, out, resume)
        self.mixture.use_tokenizer(self.tokenizer)
        self.network = make_network(config.model, self.tokenizer, config.seed, start)
        data = TermData(int(self.tokenizer.eos_id or 0), self.mixture.label_names)
        self.objective = Objective(self.network, config.objective, data)
        scales = {name: p for name, p in self.objective.named_parameters() if name.endswith("logit_scale")}
        self.max_scales = {name: max(MAX_LOGIT_SCALE, float(p.detach())) for name, p in scales.items()}
        for stage in self.plan:  # a mistake in the last stage is found now, and not after hours
            self.prepare(stage)
        self.dtype = fast_dtype(device) if config.precision == "auto" else getattr(torch, config.precision)
        self.progress = load_progress(out / STATE, self.fingerprint) if resume else Progress()
        self.begin(next((stage for stage in self.plan if self.progress.step < stage.end), self.plan[-1]))
        if resume:
            # Between two stages, the saved moments belong to the one before.
            fresh = self.progress.step == self.stage.start
            load_state(out / STATE, self.masters, None if fresh else self.optimizer)
        self.started = time.perf_counter() - self.progress.seconds
        self.log = MetricsLog(out / "metrics.jsonl", self.progress.step) if rank() == 0 else None
        self.report = Report()
        self.measured_at = -1  # the step of `report`
        self.window: list[dict[str, Tensor]] = []  # the terms of the steps since the last log
        if rank() == 0:  # what cannot be saved is found now, and not after hours
            with tempfile.TemporaryDirectory(dir=out, prefix=".rehearsal.", suffix=".tmp") as folder:
                self.save(Path(folder), self.progress.step)
                save_state(Path(folder, STATE), self.progress, self.fingerprint, self.masters, self.optimizer)

    def prepare(self, stage: Stage) -> Mixture:
        """The batches of a stage; its terms are weighed, and what it does not train is frozen. Raises ValueError."""
        self.objective.use(stage.objective, stage.freeze)
        for kind in self.objective.weights:
            term: Any = self.objective.terms[kind]
            rows = max(term.min_rows, term.min_rows_per_rank * world_size())
            if stage.batch_size < rows:
                raise ValueError(f"batch_size: expected at least {rows} for {kind}, got {stage.batch_size}")
        seed = self.config.seed + stage.start
        return self.mixture.mixed(stage.weights, stage.batch_size, stage.image_size or 1, seed)

    def begin(self, stage: Stage) -> None:
        """Set up what is trained, and how, in the steps of `stage`."""
        self.stage = stage
        self.mixture_now = self.prepare(stage)
        self.objective.to(self.device)
        self.masters = MasterWeights(self.objective, self.dtype)
        matrices = {f"network.{name}" for name in hidden_matrices(self.network)}  # without the terms
        self.optimizer = make_optimizer(self.masters.masters, matrices, stage.optimizer)
        self.parallel: nn.Module = self.objective.train()
        if world_size() > 1:  # averages the gradients over the ranks
            devices = [self.device] if self.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(self.parallel, device_ids=devices)

    def go(self) -> None:
        """All steps that are left; then the model folder."""
        total, initial = self.samples(self.total), self.samples(self.progress.step)
        name, hidden = self.config.name, rank() > 0
        self.window_start = time.perf_counter()
        with tqdm(total=total, initial=initial, unit=" samples", unit_scale=True, desc=name, disable=hidden) as bar:
            for stage in [each for each in self.plan if self.progress.step < each.end]:
                if stage is not self.stage:
                    self.masters.release()
                    self.begin(stage)
                done = self.progress.step - stage.start
                batches = self.mixture_now.batches(done, stage.steps, self.config.workers)
                for step, batch in zip(range(self.progress.step, stage.end), batches, strict=True):
                    terms = self.step(step, batch)
                    bar.update(stage.batch_size)
                    bar.set_postfix(loss=f"{float(terms['loss']):.3f}", refresh=False)
                    self.progress = Progress(step + 1, time.perf_counter() - self.started)
                    self.after(step + 1)
        if rank() == 0 and self.measured_at != self.total:
            self.measure(self.total)
        barrier()

    def samples(self, steps: int) -> int:
        """The number of rows in the first `steps` steps."""
        return sum(stage.batch_size * min(max(steps - stage.start, 0), stage.steps) for stage in self.plan)

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Forward, backward and, if all is finite, the optimizer's step. Returns the terms of the loss."""
        stage = self.stage
        torch.manual_seed(self.config.seed + step * world_size() + rank())  # of dropout
        terms: dict[str, Tensor] = self.parallel(self.on_device(batch))
        terms["loss"].backward()
        self.masters.pull_gradients()
        trained = [p for p in self.masters.masters.values() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, stage.optimizer.clip, foreach=True)
        terms = {name: term.detach() for name, term in terms.items()}
        if not math.isfinite(float(norm)) or not math.isfinite(float(terms["loss"])):
            raise TrainingError(_not_finite(step, terms, float(norm), batch.names))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step - stage.start, stage.steps, stage.optimizer)
        self.optimizer.step()
        for name in self.max_scales.keys() & self.masters.masters.keys():
            self.masters.masters[name].data.clamp_(max=self.max_scales[name])
        self.masters.push_weights()
        self.optimizer.zero_grad(set_to_none=True)
        self.window.append({**terms, "grad_norm": norm.detach()})
        return terms

    def on_device(self, batch: Batch) -> Batch:
        """The batch on the device, as the network reads it: pixels normalised, floats in the dtype of the run."""
        inputs = {modality: tensor.to(self.device) for modality, tensor in batch.inputs.items()}
        if "image" in inputs:
            inputs["image"] = self.inputs["image"].normalize(inputs["image"])  # type: ignore[attr-defined]
        inputs = {key: x.to(self.dtype) if x.is_floating_point() else x for key, x in inputs.items()}
        moved = {name: getattr(batch, name).to(self.device) for name in ("groups", "captioning", "labels")}
        return batch._replace(inputs=inputs, **moved)

    def after(self, done: int) -> None:
        """Log, evaluate and save, each if it is due after `done` steps."""
        config = self.config
        if done % config.log_every == 0 or done == self.stage.end:
            self.log_window(done)
        if done % config.evaluate_every == 0 and rank() == 0:
            self.measure(done)
        if done % config.checkpoint_every == 0 or done == self.total:
            if self.log is not None:
                save_state(self.out / STATE, self.progress, self.fingerprint, self.masters, self.optimizer)
                self.log.draw()
            barrier()

    def log_window(self, done: int) -> None:
        """One line of metrics.jsonl: means over the steps since the last one, and over the ranks."""
        columns = {name: torch.stack([row[name].float() for row in self.window]) for name in self.window[0]}
        means = {name: float(mean_over_ranks(column.mean())) for name, column in columns.items()}
        now = time.perf_counter()
        speed = len(self.window) * self.stage.batch_size / (now - self.window_start)
        logit_scale = getattr(self.network, "logit_scale", None)
        scale = {} if logit_scale is None else {"scale": float(logit_scale.detach().float().exp())}
        self.window, self.window_start = [], now
        if self.log is not None:
            self.log.add(
                step=done, **means, **scale, lr=self.optimizer.param_groups[0]["lr"],
                samples_per_second=round(speed, 1), seconds=round(self.progress.seconds, 1),
            )  # fmt: skip

    def save(self, folder: Path, done: int) -> None:
        """Write the model folder."""
        save_folder(folder, self.config.name, self.network, self.inputs | {"text": self.tokenizer}, self.card(done))

    def measure(self, done: int) -> None:
        """Write the model folder, and evaluate what is in it: the weights as a user will load them."""
        assert self.log is not None
        paused = time.perf_counter()
        self.save(self.out, done)
        if self.evaluate is not None:
            model = load_folder(self.out, self.device, torch.float32)
            self.report, self.measured_at = self.evaluate(model), done
            self.log.add(step=done, validation=self.report.flat())
            if rejected := [str(item) for item in self.report.rejected]:
                print(f"step {done}: {len(rejected)} validation samples were rejected: {'; '.join(rejected[:3])}")
            self.log.draw()
            update_card(self.out, self.card(done))
        self.window_start += time.perf_counter() - paused

    def card(self, done: int) -> dict[str, Any]:
        """What the model card says of this model."""
        config = self.config
        return {
            **{key: value for key, value in config.card.items() if key not in KEPT_KEYS},
            "figures": self.report.figures(),
            "training": {
                "steps": done,
                "samples": self.samples(done),
                "hours": round(self.progress.seconds / 3600, 2),
                "device": self.device.type,
                "precision": str(self.dtype).removeprefix("torch."),
                "parameters": sum(p.numel() for p in self.network.parameters()),
            },
            "run": to_dict(replace(config, model=self.network.config, card={})),
        }


def _not_finite(step: int, terms: dict[str, Tensor], norm: float, names: list[str]) -> str:
    values = ", ".join(f"{name} {float(term):g}" for name, term in terms.items())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"step {step}: expected finite numbers, got {values}, gradient norm {norm:g}; samples: {shown}"


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep freed memory instead of returning it to the system.

    A training step frees and allocates the same large activations again and again; by default each time costs a page
    fault per 4 KiB. Does nothing on systems other than Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(M_TOP_PAD, 64 << 20)
