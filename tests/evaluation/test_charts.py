"""Charts: size, format and the colours that carry the figures."""

import io

import pytest
import torch
from PIL import Image

from multimodal.evaluation import GalleryEntry, Report, gallery_chart, per_class_chart, reliability_chart
from multimodal.evaluation.charts import curves_chart
from multimodal.metrics import ClassificationPredictions


def opened(chart: bytes, kind: str = "PNG") -> Image.Image:
    image = Image.open(io.BytesIO(chart))
    assert image.format == kind
    return image.convert("RGB")


def blue_pixels(png: bytes) -> int:
    """The number of pixels in the colour of the bars."""
    return sum(count for count, rgb in opened(png).getcolors(1 << 20) or [] if rgb == (47, 111, 222))


def found(accuracy: float, classes: int = 5, each: int = 10) -> ClassificationPredictions:
    """The first `accuracy` of the images of each class are correct, each with probability 1."""
    labels = torch.arange(classes).repeat_interleave(each)
    wrong = torch.arange(each).repeat(classes) >= accuracy * each
    said = (labels + wrong.long()) % classes
    return ClassificationPredictions(
        torch.nn.functional.one_hot(said, classes).float(), labels, [f"class {i}" for i in range(classes)]
    )


def test_bars_are_as_long_as_the_accuracy():
    low, high = (blue_pixels(per_class_chart({"a": found(share)})) for share in (0.2, 0.8))
    assert high == pytest.approx(4 * low, rel=0.1)


def test_many_classes_are_cut_to_the_best_and_the_worst():
    few, many = (opened(per_class_chart({"a": found(0.5, classes)})) for classes in (41, 200))
    assert few.size == many.size
    assert opened(per_class_chart({"a": found(0.5), "b": found(0.5, 200)})).width > many.width


def test_a_class_without_images_has_no_bar_and_is_none_in_the_report():
    probabilities = torch.eye(3)[[0, 1]]
    zero_shot = ClassificationPredictions(probabilities, torch.tensor([0, 0]), ["a", "b", "c"])
    assert Report(zero_shot={"set": zero_shot}).to_dict()["per_class_accuracy"] == {
        "set": {"a": 0.5, "b": None, "c": None}
    }
    opened(per_class_chart({"set": zero_shot}))


def test_reliability_has_a_panel_for_each_set():
    one, two = reliability_chart({"a": found(0.6)}), reliability_chart({"a": found(0.6), "b": found(0.1)})
    assert opened(two).width == 2 * opened(one).width


def test_a_report_holds_the_bins_of_the_chart():
    bins = Report(zero_shot={"a": found(0.6)}).to_dict()["reliability"]["a"]
    assert bins["images"] == [0] * 14 + [50]
    assert bins["accuracy"][-1] == pytest.approx(0.6)
    assert bins["confidence"][-1] == 1


def test_wrong_answers_come_first():
    red, green = Image.new("RGB", (50, 50), (250, 0, 0)), Image.new("RGB", (50, 50), (0, 250, 0))
    answers = [GalleryEntry(green, "cat", "cat", 0.9, "a cat"), GalleryEntry(red, "dog", "cat", 0.6, "$ \\frac{ $")]
    chart = opened(gallery_chart(answers, across=2), "JPEG")
    middle = [chart.getpixel((chart.width * x // 4, chart.height // 3)) for x in (1, 3)]
    for colour, drawn in zip(middle, [(250, 0, 0), (0, 250, 0)], strict=True):
        assert max(abs(a - b) for a, b in zip(colour, drawn, strict=True)) < 5  # a JPEG
    more = opened(gallery_chart([GalleryEntry(red, "a", "b", 0.5)] * 5, across=2), "JPEG")
    assert more.height > chart.height


def test_curves_are_an_image_even_of_little_data():
    row = {"step": 1, "loss": 2.0, "contrastive": 2.0, "lr": 0.1, "grad_norm": 1.0, "samples_per_second": 5}
    figures = {"a/x": 0.5, "b/x": 0.1, "a/y": 3, "top-1": 1.0}
    for rows, size in (
        ([], (800, 300)),
        ([row], (800, 300)),
        ([row, {"step": 1, "validation": figures}], (800, 300)),  # measured once: no curve
        ([row, *({"step": n, "validation": figures} for n in (1, 2))], (1600, 600)),  # loss, rate, x, y; top-1 below
    ):
        assert opened(curves_chart(rows)).size == size
