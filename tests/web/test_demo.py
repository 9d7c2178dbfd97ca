"""The demo page of a model, as a notebook user makes it."""

import importlib.util
import json
import os
import sys

import pytest

import multimodal as mm
from multimodal.evaluation import PHOTOS
from multimodal.files import printable
from multimodal.metrics import Measure
from multimodal.web import make_demo, render_page
from tests.web.page import Page

FIGURES = [
    Measure("shapes", "zero_shot_top1", 0.125, 8, "share"),
    Measure("shapes", "CIDEr", 0.3, 8),
    Measure("shapes", "CIDEr", 0.4, 8, strategy="beam"),
    Measure("shapes", "ECE", 0.2, 8),
]


def test_a_page_of_a_folder(make_model, photos):
    model = make_model()
    model.card = {"about": "A <test>.", "figures": mm.evaluation.Report(tuple(FIGURES)).figures()}
    page = Page(render_page(make_demo(model, photos, labels=["<cat>", "dog"], queries=["a & b"])))
    assert len(page.images) == 6 + 4  # photographs and hits
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.images)
    for expected in ("A <test>.", "<cat>", "“a & b”", "12.5 %", "0.300", "captions 6 photographs", mm.__version__):
        assert expected in page.text
    assert "0.400" not in page.text  # only figures of the default strategy
    assert str(photos) not in page.text


def test_a_page_without_figures_has_no_legend(make_model, photos):
    assert "The figures" not in Page(render_page(make_demo(make_model(decoder=False), photos))).text


def test_unreadable_images_are_listed(make_model, photos):
    (photos / "bad.png").write_bytes(b"x")
    with pytest.warns(UserWarning, match="1 of 7 images"):
        demo = make_demo(make_model(), photos, ["cat", "dog"], ["a cat"])
    assert [item.name for item in demo.rejected] == [str(photos / "bad.png")]
    assert demo.to_dict()["rejected"] == [demo.rejected[0].to_dict()]
    assert len(demo.photos) == 6
    Page(render_page(demo))


def test_no_usable_image_raises(make_model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    with (
        pytest.warns(UserWarning, match="1 of 1 images"),
        pytest.raises(ValueError, match=r"images: expected some that can be used, got none of 1: .*bad\.png"),
    ):
        make_demo(make_model(), tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="needs scikit-image")
def test_the_default_photographs(make_model):
    demo = make_demo(make_model())
    assert {photo.classification.item.name for photo in demo.photos} == set(PHOTOS)


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not allowed")
@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"\x1b[31mred", b"\xc2\x9b31m", "\u202egnp".encode()])
def test_strange_names(make_model, photos, name):
    (photos / "0.png").rename(photos / os.fsdecode(name + b".png"))
    (photos / os.fsdecode(b"broken" + name + b".png")).write_bytes(b"x")
    with pytest.warns(UserWarning, match="1 of 7 images"):
        demo = make_demo(make_model(), photos, ["cat", name.decode(errors="replace")], ["a cat"])
    shown = [render_page(demo), json.dumps(demo.to_dict(), ensure_ascii=False)]
    shown += [*map(str, demo.photos), *map(str, demo.searches)]
    for text in shown:
        text.encode("utf-8")
        assert printable(text.replace("\n", "")) == text.replace("\n", "")
