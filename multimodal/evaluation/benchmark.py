"""The standard validation sets, and the evaluation of a model on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from multimodal.evaluation.report import Report
from multimodal.evaluation.validation import DEFAULT, Validation, ValidationConfig
from multimodal.generation import Strategy
from multimodal.model import Model

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
    model: Model, root: str | Path, limit: int | None = None, strategies: Sequence[Strategy] = DEFAULT
) -> Report:
    """Measure `model` on each set of `BENCHMARK` that exists under `root`.

    limit: at most this many images per set, evenly spaced; compare figures with equal limits only.
    strategies: images are captioned once with each. Tasks that the model does not support are skipped.
    Raises FileNotFoundError if no set exists.
    """
    root = Path(root)
    existing = [config for config in BENCHMARK if (root / config.path).exists()]
    if not existing:
        raise FileNotFoundError(
            f"benchmark: expected one of {', '.join(config.path for config in BENCHMARK)} in {root}, got none"
        )
    useful = [replace(config, limit=limit) for config in existing if set(config.tasks) & set(model.can)]
    return Validation(useful, root)(model, strategies)
