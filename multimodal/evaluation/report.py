"""A table of measures that prints, shows itself in a notebook and serialises."""

import html
from dataclasses import dataclass, field, replace
from typing import Any

from multimodal.config import to_dict
from multimodal.metrics import ClassificationPredictions, Measure, accuracy_by_class, reliability
from multimodal.results import Rejected

HEAD = ("dataset", "measure", "value", "n")


@dataclass(frozen=True)
class Report:
    """The measures of a model, the rejected samples, and the predictions behind the accuracies."""

    rows: tuple[Measure, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    zero_shot: dict[str, ClassificationPredictions] = field(default_factory=dict)  # by data set

    def __add__(self, other: "Report") -> "Report":
        """One report on the data sets of both."""
        return Report(self.rows + other.rows, self.rejected + other.rejected, self.zero_shot | other.zero_shot)

    def flat(self) -> dict[str, float]:
        """`dataset/measure` -> value"""
        return {f"{row.dataset}/{row.name}": row.value for row in self.rows}

    def figures(self) -> list[dict[str, Any]]:
        """The measures as tables for a model card; `read_measures` reads them back."""
        return [to_dict(replace(row, value=round(row.value, 4))) for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        bins = {name: reliability(*found[:2])._asdict() for name, found in self.zero_shot.items()}
        return {
            "measures": [to_dict(row) for row in self.rows],
            "rejected": [item.to_dict() for item in self.rejected],
            "per_class_accuracy": {name: accuracy_by_class(found) for name, found in self.zero_shot.items()},
            "reliability": {name: {key: x.tolist() for key, x in each.items()} for name, each in bins.items()},
        }

    def __str__(self) -> str:
        table = [HEAD, *(row.cells() for row in self.rows)]
        a, b, c, d = (max(map(len, column)) for column in zip(*table, strict=True))  # the widths
        lines = [f"{dataset:<{a}}  {measure:<{b}}  {value:>{c}}  {n:>{d}}" for dataset, measure, value, n in table]
        return "\n".join(lines + [f"rejected {item}" for item in self.rejected])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in HEAD)
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells()) for row in self.rows]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        lost = "".join(f"<div>rejected {html.escape(str(item))}</div>" for item in self.rejected)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{lost}"
