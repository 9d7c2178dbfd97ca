"""From a run file to a model."""

from multimodal.training.config import RunConfig, read_run, run_config
from multimodal.training.loop import TrainingError, train

__all__ = ["RunConfig", "TrainingError", "read_run", "run_config", "train"]
