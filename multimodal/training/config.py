"""One file describes a run."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from multimodal.config import check_one_of, from_dict
from multimodal.datasets import DataConfig
from multimodal.evaluation import ValidationConfig
from multimodal.models import ModelConfig, encoder_configs
from multimodal.preprocess import IMAGE_SUFFIXES, PREPROCESSORS
from multimodal.training.objectives import OBJECTIVES


@dataclass(frozen=True)
class OptimizerConfig:
    muon: bool = True  # for the weight matrices of the network; everything else takes AdamW's step
    lr: float = 3e-3
    weight_decay: float = 0.1
    momentum: float = 0.95  # Muon's
    beta1: float = 0.9  # AdamW's
    beta2: float = 0.98
    warmup: int = 200  # steps
    final_lr: float = 0.0  # as a fraction of lr, at the end of the cosine
    clip: float = 1.0  # maximum norm of the gradient


@dataclass(frozen=True)
class StageConfig:
    """Some steps of a run, with a warm-up and a cosine of their own. None: the value of the run."""

    steps: int
    batch_size: int | None = None
    image_size: int | None = None  # of the training images; None: as the model reads them
    weights: tuple[float, ...] | None = None  # of the sources in their order, 0 leaves one out
    objective: dict[str, float] | None = None  # weights of the run's terms by kind; terms left out keep theirs
    optimizer: OptimizerConfig | None = None
    freeze: tuple[str, ...] | None = None


class Stage(NamedTuple):
    """A stage with every value filled in."""

    start: int  # its first step, from 0
    end: int  # the step after its last
    steps: int
    batch_size: int
    image_size: int | None  # None: the model reads no images
    weights: tuple[float, ...]
    objective: dict[str, float]
    optimizer: OptimizerConfig
    freeze: tuple[str, ...]


@dataclass(frozen=True)
class RunConfig:
    name: str
    data: tuple[DataConfig, ...]
    objective: tuple[Annotated[Any, OBJECTIVES], ...]  # the terms of the loss
    model: ModelConfig | None = None  # None: the model of `start_from`
    validation: tuple[ValidationConfig, ...] = ()
    # The preprocessors by modality. A modality without a table keeps the preprocessor of `start_from`. In a new model,
    # images are resized and cropped to the size it reads, and texts get a byte-pair encoding trained on the captions
    inputs: dict[str, Annotated[Any, PREPROCESSORS]] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 1000  # of a run without stages
    batch_size: int = 256  # of all ranks together
    stages: tuple[StageConfig, ...] = ()  # one after the other; empty: the whole run is one
    seed: int = 0
    cache_size: int | None = None  # side at which decoded images are kept; None: 9/8 of the model's image_size
    precision: str = "auto"  # "float32", "bfloat16", or whichever is faster on this device
    start_from: str | None = None  # what `load` takes: the model whose weights and preprocessors the run starts with
    change_inputs: bool = False  # let [inputs] and [model] read inputs in another way than the model of `start_from`
    freeze: tuple[str, ...] = ()  # modules that are not trained, such as "encoders"
    log_every: int = 20  # steps
    evaluate_every: int = 500
    checkpoint_every: int = 200
    workers: int = 1
    card: dict[str, Any] = field(default_factory=dict)  # what the model card says beside figures and recipe

    def __post_init__(self) -> None:
        if self.name in ("", "..") or self.name != Path(self.name).name:
            raise ValueError(f"name: expected a name for a folder, got {self.name!r}")
        for key in ("data", "objective"):
            if not getattr(self, key):
                raise ValueError(f"{key}: expected at least one [[{key}]] table, got none")
        if self.model is None and self.start_from is None:
            raise ValueError("model: expected a [model] table or start_from, got neither")
        try:
            json.dumps(self.card, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"card: expected values that JSON can hold, got {error}") from error
        check_one_of(("auto", "float32", "bfloat16"), precision=self.precision)
        counts = {key: getattr(self, key) for key in ("log_every", "evaluate_every", "checkpoint_every")}
        image = encoder_configs(self.model).get("image")
        patch = 1 if getattr(image, "crop_to_patches", False) else getattr(image, "patch_size", 1)
        for number, stage in enumerate(self.plan()):
            where = f"stages[{number}]" if self.stages else "run"
            counts |= {f"{where}.{key}": getattr(stage, key) for key in ("steps", "batch_size", "image_size")}
            side = stage.image_size
            if side is not None and side % patch:
                raise ValueError(f"{where}.image_size: expected a multiple of patch_size {patch}, got {side}")
            if len(stage.weights) != len(self.data):
                expected = f"{len(self.data)}, one for each [[data]] table"
                raise ValueError(f"{where}.weights: expected {expected}, got {len(stage.weights)}")
        for key, value in counts.items():
            if value is not None and value < 1:
                raise ValueError(f"{key}: expected at least 1, got {value}")

    @property
    def image_size(self) -> int | None:
        """The side of the images that the model reads; None if it reads none or is left to `start_from`."""
        return getattr(encoder_configs(self.model).get("image"), "image_size", None)

    @property
    def suffixes(self) -> dict[str, tuple[str, ...]]:
        """The suffixes of the files of each modality that the model reads beside text; without [model], of images."""
        read = encoder_configs(self.model) or {"image": None, **self.inputs}
        modalities = [modality for modality in read if modality != "text"]
        return {name: getattr(self.inputs.get(name), "suffixes", IMAGE_SUFFIXES) for name in modalities}

    def plan(self) -> list[Stage]:
        """The stages in their order, with what they leave open taken from the run."""
        defaults = {name: getattr(self, name) for name in ("batch_size", "image_size", "optimizer", "freeze")}
        defaults["weights"] = tuple(source.weight for source in self.data)
        objective = {OBJECTIVES.kind_of(term): term.weight for term in self.objective}
        stages: list[Stage] = []
        for own in self.stages or (StageConfig(self.steps),):
            start = stages[-1].end if stages else 0
            given = {name: value for name, value in vars(own).items() if value is not None}
            given |= {"start": start, "end": start + own.steps, "objective": objective | (own.objective or {})}
            stages.append(Stage(**(defaults | given)))
        return stages


def run_config(table: dict[str, Any]) -> RunConfig:
    """The config of a parsed run file. Raises ValueError for a mistake, naming the key."""
    return from_dict(RunConfig, table, "run")


def read_run(path: str | Path) -> RunConfig:
    """The config of a run file. Raises FileNotFoundError, and ValueError with the line for a file that is not TOML."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"run file: expected a TOML file, got {path}, which does not exist")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected TOML, got {error}") from error
    return run_config(table)
