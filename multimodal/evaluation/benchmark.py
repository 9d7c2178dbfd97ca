"""The standard validation sets, and a model's figures on all that are there."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from multimodal.evaluation.report import Report
from multimodal.evaluation.validation import EvaluatedModel, Validation, ValidationConfig

PHOTO = ("a photo of a {}.",)
SATELLITE = (
    "a satellite photo of a {}.",
    "an aerial photograph of a {}.",
    "a {} seen from above.",
    "there is a {} in this picture.",
)
BENCHMARK = (
    ValidationConfig("tiny-imagenet", "tiny-imagenet/val", ("classify",), PHOTO),
    ValidationConfig("rsicd", "rsicd/val", ("classify", "search", "caption"), SATELLITE),
    ValidationConfig("cifar10", "cifar10/test", ("classify",), PHOTO),
    ValidationConfig("flickr8k", "flickr8k/val", ("search", "caption")),
)


def evaluate_model(
    model: EvaluatedModel, root: str | Path, limit: int | None = None, beams: Sequence[int] = (1,)
) -> Report:
    """Measure `model` on each set of `BENCHMARK` that lies under `root`.

    limit: at most so many images of each set, evenly spaced (figures of equal limits compare);
    beams: a captioning run for each number of beams, 1 is greedy. What the model cannot do is left out.
    Raises FileNotFoundError where none of the sets is there.
    """
    root = Path(root)
    there = [config for config in BENCHMARK if (root / config.path).exists()]
    if not there:
        raise FileNotFoundError(
            f"benchmark: expected one of {', '.join(config.path for config in BENCHMARK)} in {root}, got none"
        )
    useful = [replace(config, limit=limit) for config in there if set(config.tasks) & set(model.can)]
    return Validation(useful, root).report(model, beams)
