"""The log of a run: a JSON object per logged step, and the curves as an image."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from multimodal.evaluation.charts import encode_figure, make_panels
from multimodal.files import atomic_write, write_text

COLUMNS = 4  # panels beside each other
NOT_TERMS = {"step", "lr", "scale", "grad_norm", "samples_per_second", "seconds", "validation"}


class MetricsLog:
    """`metrics.jsonl`: rows with `step`, appended one by one; a resumed run drops the rows that it will repeat."""

    def __init__(self, path: Path, from_step: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        for line in path.read_text(encoding="utf-8").splitlines() if from_step and path.is_file() else []:
            with suppress(json.JSONDecodeError):  # the last line of a killed run may be cut
                self.rows.append(json.loads(line))
        self.rows = [row for row in self.rows if row["step"] <= from_step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """A PNG over the steps: the loss and its terms, the learning rate, and a panel for each validation measure
    with a line for each data set (figures are named `dataset/measure`), once there are two evaluations."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {"loss": {}, "learning rate": {}}
    for row in rows:
        for name in (key for key in row if key not in NOT_TERMS):
            panels["loss"].setdefault(name, []).append((row["step"], row[name]))
        if "lr" in row:
            panels["learning rate"].setdefault("", []).append((row["step"], row["lr"]))
        for figure_name, value in row.get("validation", {}).items():
            dataset, _, measure = figure_name.rpartition("/")
            panels.setdefault(measure, {}).setdefault(dataset, []).append((row["step"], value))
    if len({row["step"] for row in rows if "validation" in row}) < 2:  # one point is no curve
        panels = {title: panels[title] for title in ("loss", "learning rate")}
    across = min(COLUMNS, len(panels))
    axes = make_panels(across, -(-len(panels) // across), 4, 3)
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        for label, points in lines.items():
            axis.plot(*zip(*points, strict=True), marker="." if len(points) < 20 else "", label=label or None)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        if any(lines):
            axis.legend(fontsize=8)
    for axis in axes[len(panels) :]:
        axis.remove()
    with atomic_write(path) as file:
        file.write(encode_figure(axes))
