"""Charts are looked at by people; here: they are pictures of a sensible size that say what they should."""

import io

import pytest
import torch
from PIL import Image

from multimodal.evaluation import (
    Answer,
    Report,
    ZeroShot,
    gallery_chart,
    per_class_chart,
    reliability_chart,
)


def opened(chart: bytes, kind: str = "PNG") -> Image.Image:
    picture = Image.open(io.BytesIO(chart))
    assert picture.format == kind
    return picture.convert("RGB")


def blue_pixels(png: bytes) -> int:
    """How much of the picture has the colour of the bars."""
    return sum(count for count, rgb in opened(png).getcolors(1 << 20) or [] if rgb == (47, 111, 222))


def found(accuracy: float, classes: int = 5, each: int = 10) -> ZeroShot:
    """Every class is right in the first `accuracy` of its images, each with probability 1."""
    labels = torch.arange(classes).repeat_interleave(each)
    wrong = torch.arange(each).repeat(classes) >= accuracy * each
    said = (labels + wrong.long()) % classes
    return ZeroShot(
        torch.nn.functional.one_hot(said, classes).float(), labels, [f"class {i}" for i in range(classes)]
    )


def test_bars_are_as_long_as_the_accuracy():
    low, high = (blue_pixels(per_class_chart({"a": found(share)})) for share in (0.2, 0.8))
    assert high == pytest.approx(4 * low, rel=0.1)


def test_of_many_classes_the_ends_are_shown():
    few, many = (opened(per_class_chart({"a": found(0.5, classes)})) for classes in (41, 200))
    assert few.size == many.size
    assert opened(per_class_chart({"a": found(0.5), "b": found(0.5, 200)})).width > many.width


def test_a_class_without_images_has_no_bar_and_none_in_the_table():
    probabilities = torch.eye(3)[[0, 1]]
    zero_shot = ZeroShot(probabilities, torch.tensor([0, 0]), ["a", "b", "c"])
    assert Report(zero_shot={"set": zero_shot}).to_dict()["per_class_accuracy"] == {
        "set": {"a": 0.5, "b": None, "c": None}
    }
    opened(per_class_chart({"set": zero_shot}))


def test_reliability_has_a_panel_for_each_set():
    one, two = reliability_chart({"a": found(0.6)}), reliability_chart({"a": found(0.6), "b": found(0.1)})
    assert opened(two).width == 2 * opened(one).width


def test_the_bins_of_a_report_are_those_of_the_chart():
    bins = Report(zero_shot={"a": found(0.6)}).to_dict()["reliability"]["a"]
    assert bins["images"] == [0] * 14 + [50]
    assert bins["accuracy"][-1] == pytest.approx(0.6)
    assert bins["confidence"][-1] == 1


def test_wrong_answers_come_first():
    red, green = Image.new("RGB", (50, 50), (250, 0, 0)), Image.new("RGB", (50, 50), (0, 250, 0))
    answers = [Answer(green, "cat", "cat", 0.9, "a cat"), Answer(red, "dog", "cat", 0.6, "$ \\frac{ $")]
    picture = opened(gallery_chart(answers, across=2), "JPEG")
    middle = [picture.getpixel((picture.width * x // 4, picture.height // 3)) for x in (1, 3)]
    for colour, drawn in zip(middle, [(250, 0, 0), (0, 250, 0)], strict=True):
        assert max(abs(a - b) for a, b in zip(colour, drawn, strict=True)) < 5  # a JPEG
    more = opened(gallery_chart([Answer(red, "a", "b", 0.5)] * 5, across=2), "JPEG")
    assert more.height > picture.height
