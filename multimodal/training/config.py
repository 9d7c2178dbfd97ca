"""One file describes a run."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal.config import from_dict
from multimodal.datasets import DataConfig
from multimodal.evaluation import ValidationConfig
from multimodal.models import NetworkConfig, network_config


@dataclass(frozen=True)
class TokenizerConfig:
    kind: str = "bpe"  # "bpe": trained on the captions of the run; "clip": CLIP's
    vocab_size: int = 4096  # of "bpe", an upper bound
    context_length: int = 32

    def __post_init__(self) -> None:
        if self.kind not in ("bpe", "clip"):
            raise ValueError(f"tokenizer.kind: expected 'bpe' or 'clip', got {self.kind!r}")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms of the loss; a term of weight 0 is not computed."""

    contrastive: float = 1.0
    captioning: float = 1.0
    classification: float = 0.0  # a linear head on labels, thrown away after training
    sigmoid: bool = False  # SigLIP's pairwise loss in place of InfoNCE; needs model.logit_bias
    label_smoothing: float = 0.0  # of captioning and classification


@dataclass(frozen=True)
class OptimizerConfig:
    lr: float = 3e-3
    weight_decay: float = 0.1
    momentum: float = 0.95  # of the matrices, which take Muon's step
    beta1: float = 0.9  # of all else, which takes AdamW's
    beta2: float = 0.98
    warmup: int = 200  # steps
    final_lr: float = 0.0  # as a fraction of lr, at the end of the cosine
    clip: float = 1.0  # largest norm of the gradient


@dataclass(frozen=True)
class SizeConfig:
    """Images of `side` pixels, until so large a share of the steps is done; the model's own size follows."""

    until: float
    side: int

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"sizes.side: expected at least 1, got {self.side}")


@dataclass(frozen=True)
class RunConfig:
    name: str
    model: NetworkConfig
    data: tuple[DataConfig, ...]
    validation: tuple[ValidationConfig, ...] = ()
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 1000
    batch_size: int = 256  # of all ranks together
    seed: int = 0
    sizes: tuple[SizeConfig, ...] = ()  # lower resolutions at first
    cache_size: int | None = None  # side at which decoded images are kept; None: 9/8 of image_size
    precision: str = "auto"  # "float32", "bfloat16", or whichever is faster on this device
    start_from: str | None = None  # a model folder whose weights and tokenizer the run begins with
    freeze: tuple[str, ...] = ()  # modules that stay as they are, such as "dual"
    log_every: int = 20  # steps
    evaluate_every: int = 500
    checkpoint_every: int = 200
    workers: int = 1
    card: dict[str, Any] = field(default_factory=dict)  # what the model card says beside figures and recipe

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data: expected at least one [[data]] table, got none")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"precision: expected 'auto', 'float32' or 'bfloat16', got {self.precision!r}")
        for key in ("steps", "batch_size", "log_every", "evaluate_every", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected at least 1, got {getattr(self, key)}")
        ends = [size.until for size in self.sizes]
        if sorted(set(ends)) != ends or not all(0 < end < 1 for end in ends):
            raise ValueError(f"sizes: expected `until` to grow, between 0 and 1, got {ends}")

    def size_at(self, step: int) -> int:
        """The side of the images of `step` (from 0)."""
        for size in self.sizes:
            if step < size.until * self.steps:
                return size.side
        return self.model.image.image_size


def run_config(table: dict[str, Any]) -> RunConfig:
    """The config of a parsed run file."""
    if not isinstance(table.get("model"), dict):
        raise ValueError("run: expected a [model] table, got none")
    model = network_config(table["model"])  # captioner or dual encoder: the table decides
    values = {key: value for key, value in table.items() if key != "model"}
    return from_dict(RunConfig, values | {"model": model}, "run")


def read_run(path: str | Path) -> RunConfig:
    """The config of a run file; a file that is not TOML is a ValueError with its line."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"run file: expected a TOML file, got {path}, which is not there")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected TOML, got {error}") from error
    return run_config(table)
