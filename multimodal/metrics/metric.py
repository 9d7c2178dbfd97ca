"""The registry of metrics, and the figures that they give.

>>> METRICS.register("median_rank", Metric("search", lambda found: float(found.text_to_image.median())))
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.config import Registry, check_one_of, from_dict

TASKS = ("classify", "search", "caption")


@dataclass(frozen=True)
class Metric:
    """One metric of a task.

    task: "classify", "search" or "caption": `compute` is given `ClassificationPredictions`,
        `RetrievalPredictions` or `CaptionPredictions`.
    compute: returns one value per sample, whose mean is the figure, or one number for the whole set.
    unit: "share" (0 to 1, shown in percent), "number" or "count".
    """

    task: str
    compute: Callable[[Any], Tensor | np.ndarray | list[float] | float]
    unit: str = "number"

    def __post_init__(self) -> None:
        check_one_of(TASKS, task=self.task)
        check_one_of(("share", "number", "count"), unit=self.unit)


METRICS: Registry[Metric] = Registry("metric")


@dataclass(frozen=True)
class Measure:
    """One figure: the value of a metric on a data set."""

    dataset: str
    measure: str
    value: float
    n: int  # samples: images, or sentences if the sentences are the queries
    unit: str = "number"
    strategy: str | None = None  # how captions were decoded; None for the default, greedy

    @property
    def name(self) -> str:
        """The metric with its strategy, such as "CIDEr (beam)"."""
        return self.measure if self.strategy is None else f"{self.measure} ({self.strategy})"

    @property
    def shown(self) -> str:
        """The value as text: shares in percent."""
        if self.unit == "share":
            return f"{100 * self.value:.1f} %"
        return f"{self.value:.0f}" if self.unit == "count" else f"{self.value:.3f}"

    def cells(self) -> tuple[str, str, str, str]:
        """Data set, measure, value and n as text."""
        return self.dataset, self.name, self.shown, str(self.n)


def compute_metrics(
    dataset: str, task: str, predictions: tuple[Any, ...], strategy: str | None = None, modality: str = "image"
) -> tuple[Measure, ...]:
    """All registered metrics of `task`, in the order of registration; `modality` takes the place of "image" in names.

    The `n` of a corpus value is the length of the first field of `predictions`.
    """
    measures = []
    for name, metric in METRICS.items():
        if metric.task == task:
            values = torch.as_tensor(metric.compute(predictions), dtype=torch.float64)
            n = len(values) if values.ndim else len(predictions[0])
            renamed = name.replace("image", modality)
            measures.append(Measure(dataset, renamed, float(values.mean()), n, metric.unit, strategy))
    return tuple(measures)


def read_measures(figures: Any) -> list[Measure]:
    """The inverse of `Report.figures`, for a model card; empty if the card holds something else."""
    if not isinstance(figures, list):
        return []
    return [from_dict(Measure, row, f"figures[{i}]") for i, row in enumerate(figures)]
