"""The demo: its output, and the page that it writes."""

import base64
import importlib.util
import io
import re
import sys

import pytest
from PIL import Image

from multimodal.cli.images import MAX_PHOTOS
from multimodal.evaluation import LABELS, PHOTOS
from multimodal.web.demo import TEXTS
from tests.web.page import Page

here = importlib.util.find_spec("skimage") is not None
needs_photos = pytest.mark.skipif(not here, reason="needs the photographs in the scikit-image wheel")


@needs_photos
def test_the_photographs_of_scikit_image(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    done = run("demo", "--model", folder)
    assert (done.code, done.err) == (0, "")
    assert "skimage" not in sys.modules
    for name in PHOTOS:
        assert f"\n{name}: " in done.out
    for query in TEXTS["searches"]:
        assert f"“{query}”: " in done.out
    assert "12.5 %" in done.out  # the figure on the card
    page = Page((tmp_path / "demo.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.images) == len(PHOTOS) + 4 * len(TEXTS["searches"])
    assert all(link is not None and link.startswith("data:image/jpeg;base64,") for link in page.links)
    first = Image.open(io.BytesIO(base64.b64decode((page.images[-1]["src"] or "").partition(",")[2])))
    assert max(first.size) >= 200
    assert all(label in page.text for label in LABELS)
    assert "Random & tiny." in page.text
    assert "12.5 %" in page.text
    assert "of scikit-image" not in page.text
    assert not re.search(r"https?://", page.text)


def test_own_photographs(run, folder, photos, bad, tmp_path):
    out = tmp_path / "own.html"
    arguments = ("--photos", photos, "--out", out, "--labels", "<cat>,dog", "--search", "a & b", "--model", folder)
    done = run("demo", *arguments, "--json")
    assert done.code == 0
    assert str(bad) in done.line
    assert len(done.json["photos"]) == 6
    assert {photo["label"] for photo in done.json["photos"]} <= {"<cat>", "dog"}
    assert all(isinstance(photo["caption"], str) for photo in done.json["photos"])
    [search] = done.json["searches"]
    assert search["query"] == "a & b"
    scores = [hit["score"] for hit in search["hits"]]
    assert scores == sorted(scores, reverse=True)
    page = Page(out.read_text(encoding="utf-8"))
    assert "<cat>" in page.text
    assert "“a & b”" in page.text
    assert str(photos) not in out.read_text(encoding="utf-8")  # folders stay private


def test_a_model_without_captions(run, other_folder, photos, tmp_path):
    done = run("demo", "--photos", photos, "--out", tmp_path / "x.html", "--model", other_folder, "--json")
    assert {photo["caption"] for photo in done.json["photos"]} == {None}
    text = Page((tmp_path / "x.html").read_text(encoding="utf-8")).text
    assert "aption" not in text


def test_a_large_folder_is_thinned(run, folder, draw, tmp_path):
    for i in range(MAX_PHOTOS + 5):
        draw(tmp_path / "many" / f"{i:03}.png", i)
    done = run("demo", "--photos", tmp_path / "many", "--out", tmp_path / "x.html", "--model", folder, "--json")
    assert f"showing {MAX_PHOTOS} of the {MAX_PHOTOS + 5}" in done.line
    names = [photo["image"] for photo in done.json["photos"]]
    assert len(names) == len(set(names)) == MAX_PHOTOS


def test_without_scikit_image(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [])  # as if it were not installed
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    importlib.invalidate_caches()
    done = run("demo")
    assert done.code == 2
    assert "pip install scikit-image" in done.line
    assert "--photos" in done.line


def test_no_usable_photographs(run, folder, tmp_path):
    (tmp_path / "none").mkdir()
    done = run("demo", "--photos", tmp_path / "none", "--model", folder)
    assert (done.code, "none" in done.line) == (2, True)
    (tmp_path / "none" / "x.png").write_bytes(b"x")
    done = run("demo", "--photos", tmp_path / "none", "--out", tmp_path / "x.html", "--model", folder)
    assert (done.code, "x.png" in done.line) == (2, True)
    assert not (tmp_path / "x.html").exists()
