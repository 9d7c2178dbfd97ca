"""What a run tells: a JSON object per logged step, and a picture of the curves."""

import json
from pathlib import Path
from typing import Any

from multimodal.files import atomic_write, write_text

TERMS = ("loss", "contrastive", "captioning", "classification")


class MetricsLog:
    """`metrics.jsonl`: rows with `step`, appended as they come; a resumed run drops those it repeats."""

    def __init__(self, path: Path, from_step: int = 0) -> None:
        self.path = path
        self.rows = [row for row in _read(path) if row["step"] <= from_step] if from_step else []
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the last line of a killed run may be cut
            continue
    return rows


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """A PNG: the loss and its terms, the learning rate, and every validation figure, over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [row for row in rows if "loss" in row]
    checks = [row for row in rows if "validation" in row]
    panels = [("loss", steps), ("learning rate", steps)] + ([("validation", checks)] if checks else [])
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display, and without touching the user's backend
    for axis, (title, points) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        xs = [row["step"] for row in points]
        if title == "learning rate":
            axis.plot(xs, [row["lr"] for row in points])
        elif title == "validation":
            for name in sorted({name for row in points for name in row["validation"]}):
                axis.plot(xs, [row["validation"].get(name) for row in points], marker=".", label=name)
        else:
            for name in (key for key in TERMS if points and key in points[0]):
                axis.plot(xs, [row[name] for row in points], label=name)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)
