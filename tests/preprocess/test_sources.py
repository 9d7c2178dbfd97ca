import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from multimodal.preprocess import (
    ImageError,
    ImageTransform,
    Sources,
    decode_all,
    open_image,
    resolve,
)
from multimodal.preprocess.sources import AHEAD, THREADS
from multimodal.results import Rejected


@pytest.fixture
def tree(tmp_path, draw):
    """Pictures and other files at three depths."""
    for i, name in enumerate(["b.png", "a.JPG", "deep/c.Png", "deep/er/d.webp", "deep.png"]):
        draw(tmp_path / "photos" / name, i)
    for name in ["notes.txt", ".hidden.png", "._a.jpg", ".cache/e.png", "deep/Thumbs.db", "no suffix"]:
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"x")
    return tmp_path / "photos"


def below(sources, folder):
    return [Path(item).relative_to(folder).as_posix() for item in sources.items]


def test_a_folder(tree):
    sources = resolve(tree)
    assert below(sources, tree) == ["a.JPG", "b.png", "deep/c.Png", "deep/er/d.webp", "deep.png"]
    assert sources.names == [str(item) for item in sources.items]
    assert (sources.single, sources.strict) == (False, False)
    assert sources == resolve(str(tree)) == resolve(str(tree) + os.sep) == resolve(sources)
    assert sources.names[1] == str(tree / "b.png")
    assert sources.items == sorted(sources.items)


def test_a_folder_begins_as_it_was_given(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert resolve("photos").names[0] == os.path.join("photos", "a.JPG")
    assert resolve("./photos/deep/..").names[0].startswith(os.path.join("photos", "deep", ".."))
    monkeypatch.chdir(tree)
    assert resolve(".").names[0] == "a.JPG"
    (tree.parent / "link").symlink_to(tree)
    assert resolve(tree.parent / "link").names[0] == str(tree.parent / "link" / "a.JPG")


def test_links(tree, tmp_path, draw):
    (tree / "loop").symlink_to(tree)
    (tree / "deep" / "up").symlink_to("..")
    (tree / "a folder again").symlink_to(tree / "deep")
    (tree / "itself").symlink_to("itself")
    (tree / "itself.png").symlink_to("itself.png")
    (tree / "gone.png").symlink_to("nowhere.png")
    (tree / "second.png").symlink_to("b.png")
    draw(tmp_path / "elsewhere" / "f.png", 9)
    (tree / "linked").symlink_to(tmp_path / "elsewhere")
    expected = ["a.JPG", "b.png", "deep/c.Png", "deep/er/d.webp", "deep.png", "gone.png", "itself.png"]
    expected += ["linked/f.png", "second.png"]
    assert below(resolve(tree), tree) == expected
    pngs = [name for name in expected if name.endswith(".png")]
    assert below(resolve(tree / "**" / "*.png"), tree) == pngs
    rejected = [result for _, result in decode_all(resolve(tree)) if isinstance(result, Rejected)]
    assert [Path(item.name).name for item in rejected] == ["gone.png", "itself.png"]
    assert rejected[0].reason == "no such file"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png", "deep.png"]),
        ("[ab].*", ["a.JPG", "b.png"]),
        ("[!a]?png", ["b.png"]),
        ("*/*.Png", ["deep/c.Png"]),
        ("deep/**/*.Png", ["deep/c.Png"]),
        ("**/*.webp", ["deep/er/d.webp"]),
        ("**/er/*", ["deep/er/d.webp"]),
        ("**/d*/**/d*", ["deep/er/d.webp"]),
        ("d*/**", ["deep/Thumbs.db", "deep/c.Png", "deep/er/d.webp"]),
        ("**", ["a.JPG", "b.png", "deep/Thumbs.db", "deep/c.Png", "deep/er/d.webp", "deep.png"]),
        ("**/*.png", ["b.png", "deep.png"]),
        ("*/", []),
        ("*.tiff", []),
        ("deep/**/no*", []),
    ],
)
def test_globs(tree, pattern, expected, monkeypatch):
    expected = sorted([*expected, "no suffix", "notes.txt"]) if pattern == "**" else expected
    expected = sorted(expected, key=lambda name: Path(name).parts)
    for spelled in (str(tree / pattern), tree / pattern):
        sources = resolve(spelled if pattern != "*/" else f"{tree}/*/")
        assert below(sources, tree) == expected
        assert (sources.single, sources.strict) == (False, False)
    monkeypatch.chdir(tree)
    assert resolve(pattern).names == [os.path.normpath(name) for name in expected]


def test_one(tree):
    image = Image.open(tree / "b.png")
    for one, name in (
        (tree / "b.png", str(tree / "b.png")),
        (str(tree / "b.png"), str(tree / "b.png")),
        (image, str(tree / "b.png")),
        (image.convert("L"), "image"),
        (b"", "image"),
        (bytearray(b"x"), "image"),
        (np.zeros((4, 4, 3), np.uint8), "image"),
        (np.zeros((4, 4)), "image"),
        (torch.zeros(3, 4, 4), "image"),
    ):
        sources = resolve(one)
        assert (sources.single, sources.strict, sources.names) == (True, True, [name])
    (tree / "[b]*.png").write_bytes((tree / "b.png").read_bytes())
    assert resolve(tree / "[b]*.png").single  # a file before a glob
    image.close()


def test_lists(tree):
    array = np.zeros((4, 4, 3), np.uint8)
    sources = resolve([tree / "b.png", array, str(tree / "a.JPG"), b"x", torch.zeros(3, 2, 2)])
    assert sources.names == [str(tree / "b.png"), "images[1]", str(tree / "a.JPG"), "images[3]", "images[4]"]
    assert (sources.single, sources.strict) == (False, True)
    assert resolve([]) == resolve(()) == Sources([], [], False, True)
    # with a folder or a glob the places in the list say nothing any more
    sources = resolve((str(tree / "*.png"), tree / "deep", array))
    assert (len(sources.items), sources.single, sources.strict) == (5, False, False)
    assert sources.names[-1] == "images[2]"
    one = resolve([tree / "b.png"])
    assert (one.single, one.strict) == (False, True)


def test_batches():
    for batch in (torch.rand(3, 3, 4, 4), np.random.default_rng(0).random((3, 4, 4, 3))):
        sources = resolve(batch)
        assert sources.names == ["images[0]", "images[1]", "images[2]"]
        assert (sources.single, sources.strict) == (False, True)
        for (_, found), one in zip(decode_all(sources), batch, strict=True):
            assert np.array_equal(found, open_image(one))
    assert resolve(torch.zeros(0, 3, 4, 4)).items == []


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (None, "images: expected a path, .* got NoneType"),
        (7, "got int"),
        ({"a.jpg"}, "got set"),
        ({"a.jpg": 1}, "got dict"),
        ("", "'': no such file or folder"),
        ("no/such.jpg", "no/such.jpg: no such file or folder"),
        (Path("no/such"), "no/such: no such file or folder"),
        ("nul\0.jpg", "no such file or folder"),
        ("no/such/*.jpg", "no such folder: no/such"),
        ("no/such/**/*.jpg", "no such folder: no/such"),
        (["no/such.jpg"], "no/such.jpg: no such file or folder"),
        ([b"x", None], r"images\[1\]: expected a path, .* got NoneType"),
        ([[b"x"]], r"images\[0\]: .* got list"),
    ],
)
def test_what_is_refused(images, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=reason) as caught:
        resolve(images)
    assert isinstance(caught.value, FileNotFoundError) == ("no such" in reason)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tree):
    (tree / "deep").chmod(0)
    try:
        rejected = [result for _, result in decode_all(resolve(tree)) if isinstance(result, Rejected)]
        assert [item.name for item in rejected] == [str(tree / "deep")]
        with pytest.raises(ImageError, match="cannot be read"):
            resolve(tree / "deep")
    finally:
        (tree / "deep").chmod(0o700)


def test_an_empty_folder(tmp_path):
    assert resolve(tmp_path) == Sources([], [], False, False)
    assert list(decode_all(resolve(tmp_path))) == []


def many(folder, draw, count=60, bad=(7, 30, 59)):
    for i in range(count):
        draw(folder / f"{i:03}.png", i)
    for i in bad:
        (folder / f"{i:03}.png").write_bytes(b"")
    return resolve(folder)


def test_in_order_and_as_one_by_one(tmp_path, draw):
    sources = many(tmp_path / "photos", draw)
    transform = ImageTransform(16)
    plain, turned = list(decode_all(sources)), list(decode_all(sources, transform.read))
    assert [place for place, _ in plain] == [place for place, _ in turned] == list(range(60))
    for (place, image), (_, tensor) in zip(plain, turned, strict=True):
        if place in (7, 30, 59):
            expected = Rejected(str(sources.items[place]), "expected a picture, got an empty file")
            assert image == tensor == expected
        else:
            assert np.array_equal(image, open_image(sources.items[place]))
            assert torch.equal(tensor, transform(open_image(sources.items[place])))


def test_strict(tmp_path, draw):
    sources = many(tmp_path / "photos", draw)._replace(strict=True)
    seen = []
    with pytest.raises(ImageError, match=r"007\.png: expected a picture, got an empty file"):
        seen.extend(place for place, _ in decode_all(sources))
    assert seen == list(range(7))
    for one in (tmp_path / "photos" / "007.png", [tmp_path / "photos" / "007.png"]):
        with pytest.raises(ImageError, match=r"007\.png: expected"):
            list(decode_all(resolve(one)))
    with pytest.raises(ImageError, match="image: expected a picture, got an empty file"):
        list(decode_all(resolve(b"")))


def test_only_a_little_ahead(tmp_path, draw):
    """However large the folder, only so many pictures wait; and they end with their reader."""
    count = 3 * THREADS * AHEAD
    picture = np.zeros((2, 2, 3), np.uint8)
    sources = Sources([picture] * count, [str(i) for i in range(count)], False, True)
    started, before = [], threading.active_count()

    def read(item):
        started.append(item)
        return item

    reader = decode_all(sources, read)
    for i in range(10):
        assert next(reader)[0] == i
    assert len(started) <= THREADS * AHEAD + 10
    reader.close()
    assert threading.active_count() == before
    assert len(started) < count


def test_an_error_of_the_reader_is_not_the_pictures(tmp_path, draw):
    def read(item):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(decode_all(many(tmp_path, draw), read))


def test_one_lazy_image_many_times(tmp_path, draw):
    with Image.open(draw(tmp_path / "a.png", 0)) as image:
        results = [result for _, result in decode_all(resolve([image] * 40))]
    assert len(results) == 40
    assert all(np.array_equal(result, open_image(tmp_path / "a.png")) for result in results)
