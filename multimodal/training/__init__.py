"""From a run file to a model folder."""

from multimodal.training.config import RunConfig, read_run, run_config
from multimodal.training.loop import TrainingError, train
from multimodal.training.objectives import OBJECTIVES, Shared, Term, TermConfig, TermData

__all__ = [
    "OBJECTIVES", "RunConfig", "Shared", "Term", "TermConfig", "TermData", "TrainingError", "read_run", "run_config",
    "train",
]  # fmt: skip
