"""A table of measures that prints, shows itself in a notebook and serialises."""

import html
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from multimodal.evaluation.classification import ZeroShot, per_class_accuracy, reliability
from multimodal.results import Rejected

HEAD = ("dataset", "measure", "value", "n")


@dataclass(frozen=True)
class Measure:
    """One figure. Accuracies, recalls, ECE and BLEU-4 are from 0 to 1, CIDEr from 0 to 10."""

    dataset: str
    measure: str
    value: float
    n: int  # images, or sentences where these are the queries

    @property
    def shown(self) -> str:
        """The value as people write it: shares in percent."""
        if self.measure.startswith("zero_shot") or "recall@" in self.measure:
            return f"{100 * self.value:.1f} %"
        return str(self.value) if isinstance(self.value, int) else f"{self.value:.3f}"

    def cells(self) -> tuple[str, str, str, str]:
        return self.dataset, self.measure, self.shown, str(self.n)


def class_table(found: ZeroShot) -> dict[str, float | None]:
    """Class name -> accuracy, best first; None for a class without images."""
    accuracy = per_class_accuracy(found.probabilities, found.labels)
    known = dict(zip(found.class_names, accuracy.tolist(), strict=True))
    best = sorted(known, key=lambda name: (math.isnan(known[name]), -known[name], name))
    return {name: None if math.isnan(known[name]) else round(known[name], 4) for name in best}


@dataclass(frozen=True)
class Report:
    """What a model reached, the samples that could not be used, and the predictions behind the accuracies."""

    rows: tuple[Measure, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    zero_shot: dict[str, ZeroShot] = field(default_factory=dict)  # by data set

    def __add__(self, other: "Report") -> "Report":
        """One report on other data sets after the other."""
        return Report(
            self.rows + other.rows, self.rejected + other.rejected, self.zero_shot | other.zero_shot
        )

    def flat(self) -> dict[str, float]:
        """`dataset/measure` -> value"""
        return {f"{row.dataset}/{row.measure}": row.value for row in self.rows}

    def to_dict(self) -> dict[str, Any]:
        return {
            "measures": [asdict(row) for row in self.rows],
            "rejected": [item.to_dict() for item in self.rejected],
            "per_class_accuracy": {name: class_table(found) for name, found in self.zero_shot.items()},
            "reliability": {
                name: {key: values.tolist() for key, values in reliability(*found[:2])._asdict().items()}
                for name, found in self.zero_shot.items()
            },
        }

    def __str__(self) -> str:
        table = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(cells[column]) for cells in table) for column in range(len(HEAD))]
        lines = [
            f"{dataset:<{widths[0]}}  {measure:<{widths[1]}}  {value:>{widths[2]}}  {n:>{widths[3]}}"
            for dataset, measure, value, n in table
        ]
        return "\n".join(lines + [f"rejected {item}" for item in self.rejected])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in HEAD)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells()) + "</tr>"
            for row in self.rows
        )
        lost = "".join(f"<div>rejected {html.escape(str(item))}</div>" for item in self.rejected)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{lost}"
