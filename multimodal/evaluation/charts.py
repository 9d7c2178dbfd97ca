"""Pictures of an evaluation, as PNG bytes: classes, calibration, and what a model says of photographs."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from multimodal.evaluation.classification import ZeroShot, expected_calibration_error, reliability
from multimodal.evaluation.report import class_table

MOST = 40  # classes with a bar each; of more, the best and the worst half of so many
BLUE, GRAY = "#2f6fde", "#b9bcc2"


class Answer(NamedTuple):
    """A photograph, what is on it, and what a model said."""

    picture: Any  # a PIL image
    truth: str
    label: str
    score: float  # the probability of `label`
    caption: str | None = None

    @property
    def right(self) -> bool:
        return self.label == self.truth


def per_class_chart(sets: dict[str, ZeroShot]) -> bytes:
    """A bar for the accuracy of each class, best first, a panel for each data set."""
    tables = {name: class_table(found) for name, found in sets.items()}
    shown = {name: _ends(table) for name, table in tables.items()}
    height = 1.2 + 0.19 * max(map(len, shown.values()))
    figure = _figure(4.2 * len(sets), height)
    for axis, (name, rows) in zip(_panels(figure, len(sets)), shown.items(), strict=True):
        axis.barh(range(len(rows)), [100 * (value or 0) for _, value in rows], color=BLUE)
        axis.set_yticks(range(len(rows)), [plain(label) for label, _ in rows], fontsize=7)
        axis.set_ylim(height / 0.19 - 6.5, -0.6)  # bars are as thick in every panel
        axis.set_xlim(0, 100)
        left_out = len(tables[name]) - sum(value is not None for _, value in rows)
        note = f", {left_out} between them left out" if left_out else ""
        axis.set_title(
            f"{plain(name)}: top-1 of each class, %\n{len(tables[name])} classes{note}", fontsize=9
        )
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(axis="x", alpha=0.3)
    return _encoded(figure)


def _ends(table: dict[str, float | None]) -> list[tuple[str, float | None]]:
    """The rows to show: all of few classes, else the best and the worst with a gap between."""
    rows: list[tuple[str, float | None]] = [row for row in table.items() if row[1] is not None]
    return rows if len(rows) <= MOST else [*rows[: MOST // 2], ("...", None), *rows[-MOST // 2 :]]


def reliability_chart(sets: dict[str, ZeroShot]) -> bytes:
    """Accuracy over confidence, a panel for each data set: on the diagonal a probability means what it says."""
    figure = _figure(3.4 * len(sets), 3.6)
    for axis, (name, found) in zip(_panels(figure, len(sets)), sets.items(), strict=True):
        bins = reliability(found.probabilities, found.labels)
        ece = expected_calibration_error(found.probabilities, found.labels)
        width = 1 / len(bins.images)
        centres = [(i + 0.5) * width for i in range(len(bins.images))]
        share = (bins.images / bins.images.sum()).tolist()
        axis.bar(centres, share, width, color=GRAY, label="share of images")
        some = bins.images > 0
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
        line = bins.confidence[some].tolist(), bins.accuracy[some].tolist()
        axis.plot(*line, "o-", color=BLUE, label="accuracy")
        axis.set_title(f"{plain(name)}: ECE {ece:.3f}", fontsize=9)
        axis.set_xlabel("confidence", fontsize=8)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7, loc="upper left")
    return _encoded(figure)


def gallery_chart(answers: Sequence[Answer], across: int = 4) -> bytes:
    """Photographs with what was said of them, wrong answers first: a JPEG."""
    down = -(-len(answers) // across)
    figure = _figure(2.9 * across, 3.5 * down)
    panels = _panels(figure, across * down, down)
    for axis, answer in zip(panels, sorted(answers, key=lambda answer: answer.right), strict=False):
        axis.imshow(answer.picture)
        verdict = "right" if answer.right else f"wrong: it is {answer.truth}"
        says = f"{answer.label}, {answer.score:.0%} ({verdict})"
        lines = [says] if answer.caption is None else [says, f"“{answer.caption}”"]
        wrapped = "\n".join(part for line in lines for part in textwrap.wrap(line, 42))
        axis.set_xlabel(plain(wrapped), fontsize=8, color="black" if answer.right else "#b3261e")
    for axis in panels:
        axis.set_xticks([])
        axis.set_yticks([])
        for side in axis.spines.values():
            side.set_visible(False)
    return _encoded(figure, "jpeg")


def plain(text: str) -> str:
    """What matplotlib draws as it stands: between two $ it would read a formula."""
    return text.replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display, and without touching the user's backend
    return figure


def _panels(figure: Any, count: int, down: int = 1) -> list[Any]:
    return list(figure.subplots(down, count // down, squeeze=False).ravel())


def _encoded(figure: Any, kind: str = "png") -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=100)
    return picture.getvalue()
