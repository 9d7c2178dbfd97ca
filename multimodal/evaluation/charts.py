"""Charts as encoded images: classes, calibration, a gallery of answers, and the curves of a training run."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from multimodal.metrics import ClassificationPredictions, accuracy_by_class, expected_calibration_error, reliability

MAX_BARS = 40  # classes with a bar each; of more classes, the best and the worst half of this number
MAX_ACROSS = 4  # panels beside each other, of curves
NOT_TERMS = {"step", "lr", "scale", "grad_norm", "samples_per_second", "seconds", "validation"}  # in the log of a run
BLUE, GRAY = "#2f6fde", "#b9bcc2"


class GalleryEntry(NamedTuple):
    """A photograph, its true label and the model's answer."""

    image: Any  # a PIL image
    truth: str
    label: str
    score: float  # the probability of `label`
    caption: str | None = None

    @property
    def correct(self) -> bool:
        return self.label == self.truth


def per_class_chart(sets: dict[str, ClassificationPredictions]) -> bytes:
    """A bar for the accuracy of each class, best first; one panel per data set: a PNG."""
    tables = {name: accuracy_by_class(found) for name, found in sets.items()}
    shown = {name: _ends(table) for name, table in tables.items()}
    height = 1.2 + 0.19 * max(map(len, shown.values()))
    panels = _panels(len(sets), 1, 4.2, height)
    for axis, (name, rows) in zip(panels, shown.items(), strict=True):
        axis.barh(range(len(rows)), [100 * (value or 0) for _, value in rows], color=BLUE)
        axis.set_yticks(range(len(rows)), [escape(label) for label, _ in rows], fontsize=7)
        axis.set(xlim=(0, 100), ylim=(height / 0.19 - 6.5, -0.6))  # the same bar thickness in every panel
        hidden = len(tables[name]) - sum(value is not None for _, value in rows)
        note = f", {hidden} not shown" if hidden else ""
        axis.set_title(f"{escape(name)}: top-1 of each class, %\n{len(tables[name])} classes{note}", fontsize=9)
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(axis="x", alpha=0.3)
    return _encoded(panels)


def _ends(table: dict[str, float | None]) -> list[tuple[str, float | None]]:
    """The rows to show: all classes, or the best and the worst with a gap between."""
    rows: list[tuple[str, float | None]] = [row for row in table.items() if row[1] is not None]
    return rows if len(rows) <= MAX_BARS else [*rows[: MAX_BARS // 2], ("...", None), *rows[-MAX_BARS // 2 :]]


def reliability_chart(sets: dict[str, ClassificationPredictions]) -> bytes:
    """Reliability diagrams, accuracy over confidence; one panel per data set: a PNG."""
    panels = _panels(len(sets), 1, 3.4, 3.6)
    for axis, (name, found) in zip(panels, sets.items(), strict=True):
        confidence, accuracy, images = reliability(found.probabilities, found.labels)
        ece = expected_calibration_error(found.probabilities, found.labels)
        width = 1 / len(images)
        centres = [(i + 0.5) * width for i in range(len(images))]
        axis.bar(centres, (images / images.sum()).tolist(), width, color=GRAY, label="share of images")
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
        some = images > 0
        axis.plot(confidence[some].tolist(), accuracy[some].tolist(), "o-", color=BLUE, label="accuracy")
        axis.set_title(f"{escape(name)}: ECE {ece:.3f}", fontsize=9)
        axis.set_xlabel("confidence", fontsize=8)
        axis.set(xlim=(0, 1), ylim=(0, 1))
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7, loc="upper left")
    return _encoded(panels)


def gallery_chart(entries: Sequence[GalleryEntry], across: int = 4) -> bytes:
    """Photographs with the model's answers, wrong answers first: a JPEG."""
    panels = _panels(across, -(-len(entries) // across), 2.9, 3.5)
    for axis, entry in zip(panels, sorted(entries, key=lambda entry: entry.correct), strict=False):
        axis.imshow(entry.image)
        verdict = "correct" if entry.correct else f"wrong: it is {entry.truth}"
        lines = textwrap.wrap(f"{entry.label}, {entry.score:.0%} ({verdict})", 42)
        wrapped = "\n".join(lines + textwrap.wrap("" if entry.caption is None else f"“{entry.caption}”", 42))
        axis.set_xlabel(escape(wrapped), fontsize=8, color="black" if entry.correct else "#b3261e")
    for axis in panels:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return _encoded(panels, "jpeg")


def curves_chart(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The log of a run over its steps: the loss and its terms, the learning rate, and a panel for each validation
    measure with a line for each data set (figures are named `dataset/measure`), once there are two evaluations: a PNG.
    """
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {"loss": {}, "learning rate": {}}
    for row in rows:
        for name in (key for key in row if key not in NOT_TERMS):
            curves["loss"].setdefault(name, []).append((row["step"], row[name]))
        if "lr" in row:
            curves["learning rate"].setdefault("", []).append((row["step"], row["lr"]))
        for figure_name, value in row.get("validation", {}).items():
            dataset, _, measure = figure_name.rpartition("/")
            curves.setdefault(measure, {}).setdefault(dataset, []).append((row["step"], value))
    if len({row["step"] for row in rows if "validation" in row}) < 2:  # one point is no curve
        curves = {title: curves[title] for title in ("loss", "learning rate")}
    across = min(MAX_ACROSS, len(curves))
    panels = _panels(across, -(-len(curves) // across), 4, 3)
    for axis, (title, lines) in zip(panels, curves.items(), strict=False):
        for label, points in lines.items():
            axis.plot(*zip(*points, strict=True), marker="." if len(points) < 20 else "", label=label or None)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        if any(lines):
            axis.legend(fontsize=8)
    for axis in panels[len(curves) :]:
        axis.remove()
    return _encoded(panels)


def escape(text: str) -> str:
    """`text` as matplotlib draws it literally: between two $ it would parse a formula."""
    return text.replace("$", r"\$")


def _panels(across: int, down: int, width: float, height: float) -> list[Any]:
    """The axes of a new figure, `width` by `height` inches each, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * across, height * down), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display and leaves the user's backend alone
    return list(figure.subplots(down, across, squeeze=False).flat)


def _encoded(panels: list[Any], kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    panels[0].figure.savefig(buffer, format=kind, dpi=100)
    return buffer.getvalue()
