"""One file describes a run."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from multimodal.config import from_dict
from multimodal.datasets import DataConfig
from multimodal.encoders import ImageEncoderConfig
from multimodal.evaluation import ValidationConfig
from multimodal.models import TrainableConfig, network_config
from multimodal.preprocess import ImageTransform


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
    muon: bool = True  # for the matrices of the towers; all else, and they too if false, take AdamW's step
    lr: float = 3e-3
    weight_decay: float = 0.1
    momentum: float = 0.95  # Muon's
    beta1: float = 0.9  # AdamW's
    beta2: float = 0.98
    warmup: int = 200  # steps
    final_lr: float = 0.0  # as a fraction of lr, at the end of the cosine
    clip: float = 1.0  # largest norm of the gradient


@dataclass(frozen=True)
class StageConfig:
    """Some steps of a run, with a warm-up and a cosine of their own; None: as the run itself says."""

    steps: int
    batch_size: int | None = None
    side: int | None = None  # of the images; None: as the model sees them
    weights: tuple[float, ...] | None = None  # of the sources in their order, 0 leaves one out
    objective: ObjectiveConfig | None = None
    optimizer: OptimizerConfig | None = None
    freeze: tuple[str, ...] | None = None


class Stage(NamedTuple):
    """A stage with everything filled in."""

    start: int  # the first of its steps, from 0
    steps: int
    batch_size: int
    side: int
    weights: tuple[float, ...]
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    freeze: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.start + self.steps


@dataclass(frozen=True)
class RunConfig:
    name: str
    model: TrainableConfig
    data: tuple[DataConfig, ...]
    validation: tuple[ValidationConfig, ...] = ()
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 1000  # of a run without stages
    batch_size: int = 256  # of all ranks together
    stages: tuple[StageConfig, ...] = ()  # one after the other; none: the whole run is one
    seed: int = 0
    cache_size: int | None = None  # side at which decoded images are kept; None: 9/8 of image_size
    resize: str = "crop"  # how a picture becomes square, in training and for the model: "squash" or "pad" too
    precision: str = "auto"  # "float32", "bfloat16", or whichever is faster on this device
    start_from: str | None = None  # a model folder whose weights and tokenizer the run begins with
    freeze: tuple[str, ...] = ()  # modules that stay as they are, such as "dual"
    log_every: int = 20  # steps
    evaluate_every: int = 500
    checkpoint_every: int = 200
    workers: int = 1
    card: dict[str, Any] = field(default_factory=dict)  # what the model card says beside figures and recipe

    def __post_init__(self) -> None:
        if self.name in ("", "..") or self.name != Path(self.name).name:
            raise ValueError(f"name: expected a name for a folder, got {self.name!r}")
        if not self.data:
            raise ValueError("data: expected at least one [[data]] table, got none")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"precision: expected 'auto', 'float32' or 'bfloat16', got {self.precision!r}")
        ImageTransform(1, resize=self.resize)  # it refuses what it does not know
        for key in ("log_every", "evaluate_every", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected at least 1, got {getattr(self, key)}")
        if not isinstance(self.model.image, ImageEncoderConfig):
            raise ValueError(f"model.image: expected keys of ImageEncoderConfig, got {self.model.image}")
        patch = self.model.image.patch_size
        for number, stage in enumerate(self.plan()):
            where = f"stages[{number}]" if self.stages else "run"
            for key in ("steps", "batch_size", "side"):
                if getattr(stage, key) < 1:
                    raise ValueError(f"{where}.{key}: expected at least 1, got {getattr(stage, key)}")
            if stage.side % patch:
                raise ValueError(f"{where}.side: expected a multiple of patch_size {patch}, got {stage.side}")
            if len(stage.weights) != len(self.data):
                raise ValueError(
                    f"{where}.weights: expected {len(self.data)}, one for each [[data]] table, got {len(stage.weights)}"
                )

    def plan(self) -> list[Stage]:
        """The stages in their order, what they leave open taken from the run."""
        stages: list[Stage] = []
        for own in self.stages or (StageConfig(self.steps),):
            start = stages[-1].end if stages else 0
            weights = tuple(source.weight for source in self.data) if own.weights is None else own.weights
            stages.append(
                Stage(
                    start,
                    own.steps,
                    self.batch_size if own.batch_size is None else own.batch_size,
                    self.model.image.image_size if own.side is None else own.side,
                    weights,
                    self.objective if own.objective is None else own.objective,
                    self.optimizer if own.optimizer is None else own.optimizer,
                    self.freeze if own.freeze is None else own.freeze,
                )
            )
        return stages


def run_config(table: dict[str, Any]) -> RunConfig:
    """The config of a parsed run file."""
    if not isinstance(table.get("model"), dict):
        raise ValueError("run: expected a [model] table, got none")
    model = network_config(table["model"])  # captioner or dual encoder: the table decides
    if type(model) not in get_args(TrainableConfig):
        raise ValueError(
            f"model: expected a dual encoder or a captioner to train, got {type(model).__name__}"
        )
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
