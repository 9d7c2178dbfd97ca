import dataclasses
import io
import os
import threading
import zipfile
from base64 import b64encode
from collections import deque
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image

from multimodal.preprocess import (
    PREPROCESSORS,
    ImageError,
    ImageTransform,
    InputError,
    Preprocessor,
    Sources,
    decode_all,
    load_preprocessor,
    open_image,
    resolve,
    save_preprocessor,
)
from multimodal.preprocess.sources import MAX_THREADS, MAX_WAITING_PER_THREAD
from multimodal.results import Rejected


@pytest.fixture
def tree(tmp_path, draw):
    """Images and other files at three depths."""
    for i, name in enumerate(["b.png", "a.JPG", "deep/c.Png", "deep/er/d.webp", "deep.png"]):
        draw(tmp_path / "photos" / name, i)
    for name in ["notes.txt", ".hidden.png", "._a.jpg", ".cache/e.png", "deep/Thumbs.db", "no suffix"]:
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"x")
    return tmp_path / "photos"


def below(sources, folder):
    return [Path(item).relative_to(folder).as_posix() for item in sources.items]


def test_folder(tree):
    sources = resolve(tree)
    assert below(sources, tree) == ["a.JPG", "b.png", "deep/c.Png", "deep/er/d.webp", "deep.png"]
    assert sources.names == [str(item) for item in sources.items]
    assert (sources.single, sources.strict) == (False, False)
    assert sources == resolve(str(tree)) == resolve(str(tree) + os.sep) == resolve(sources)
    assert sources.names[1] == str(tree / "b.png")
    assert sources.items == sorted(sources.items)


def test_paths_begin_with_the_folder_as_given(tree, monkeypatch):
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


def test_single_items(tree):
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
    assert resolve(tree / "[b]*.png").single  # an existing file takes precedence over a glob
    image.close()


def test_lists(tree):
    array = np.zeros((4, 4, 3), np.uint8)
    sources = resolve([tree / "b.png", array, str(tree / "a.JPG"), b"x", torch.zeros(3, 2, 2)])
    assert sources.names == [str(tree / "b.png"), "images[1]", str(tree / "a.JPG"), "images[3]", "images[4]"]
    assert (sources.single, sources.strict) == (False, True)
    assert resolve([]) == resolve(()) == Sources([], [], False, True)
    # with a folder or glob in the list, unusable items are skipped
    sources = resolve((str(tree / "*.png"), tree / "deep", array))
    assert (len(sources.items), sources.single, sources.strict) == (5, False, False)
    assert sources.names[-1] == "images[2]"
    one = resolve([tree / "b.png"])
    assert (one.single, one.strict) == (False, True)


def test_batches():
    for batch in (torch.rand(3, 3, 4, 5), np.random.default_rng(0).random((3, 4, 4, 3))):
        sources = resolve(batch)
        assert sources.names == ["images[0]", "images[1]", "images[2]"]
        assert (sources.single, sources.strict) == (False, True)
        for (_, found), one in zip(decode_all(sources), batch, strict=True):
            assert np.array_equal(found, open_image(one))
    assert resolve(torch.zeros(0, 3, 4, 4)).items == []


def closed():
    file = io.BytesIO()
    file.close()
    return file


def unseekable(path):
    """A stream that can be read once, such as a response from a server."""
    reader, writer = os.pipe()
    os.write(writer, path.read_bytes())
    os.close(writer)
    return open(reader, "rb")


def written(path):
    """A buffer as an image has just been saved to: its position is the end."""
    buffer = io.BytesIO()
    buffer.write(path.read_bytes())
    return buffer


ONE = {
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "a buffer at its end": written,
    "an open file": lambda path: path.open("rb"),
    "a file in text mode": lambda path: path.open(encoding="latin-1"),
    "a stream": unseekable,
    "a member of an archive": lambda path: member(path),
    "a row with bytes": lambda path: {"bytes": path.read_bytes(), "path": None},
    "a row with both": lambda path: {"bytes": path.read_bytes(), "path": "elsewhere.png"},
    "a row with a path": lambda path: {"bytes": None, "path": str(path)},
    "a data URI": lambda path: "data:image/png;base64," + b64encode(path.read_bytes()).decode(),
    "a data URI without padding": lambda path: "data:;base64," + b64encode(path.read_bytes()).decode().rstrip("="),
    "a data URI in percents": lambda path: "data:image/png," + quote(path.read_bytes()),
    "a file URI": lambda path: path.as_uri(),
    "a file URI with blanks": lambda path: f"file://{path}",
    "a file URI with a host": lambda path: "file://localhost" + quote(str(path)),
    "home": lambda path: "~/a b.png",
    "home as a Path": lambda path: Path("~/a b.png"),
}
MANY = {
    "a generator": lambda paths: (path for path in paths),
    "an iterator": iter,
    "a map": lambda paths: map(str, paths),
    "a set": set,
    "a frozen set": lambda paths: frozenset(map(str, paths)),
    "values": lambda paths: dict(enumerate(paths)).values(),
    "keys": lambda paths: dict.fromkeys(paths).keys(),
    "an array of strings": lambda paths: np.array([str(path) for path in paths]),
    "an array of objects": lambda paths: np.array(paths, dtype=object),
    "a deque": deque,
    "files": lambda paths: [path.open("rb") for path in paths],
    "rows": lambda paths: [{"bytes": path.read_bytes(), "path": str(path)} for path in paths],
}


def member(path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(path, "a b.png")
    return zipfile.ZipFile(buffer).open("a b.png")


@pytest.mark.parametrize("kind", ONE)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_kinds_of_one_image(kind, tmp_path, draw, monkeypatch):
    path = draw(tmp_path / "a b.png", 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    sources = resolve(ONE[kind](path))
    assert (sources.single, sources.strict) == (True, True)
    for _ in range(2):  # results open their image again
        [(_, image)] = decode_all(sources)
        assert np.array_equal(image, open_image(path))
    expected = {"a row with both": "elsewhere.png", "a member of an archive": "a b.png"}
    in_memory = ("BytesIO", "a buffer at its end", "a stream", "a row with bytes")
    unnamed = kind in in_memory or kind.startswith("a data URI")
    assert sources.names == [expected.get(kind, "image" if unnamed else str(path))]
    assert np.array_equal(open_image(ONE[kind](path)), open_image(path))


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_kinds_of_many_images(kind, tmp_path, draw):
    paths = [draw(tmp_path / name, i) for i, name in enumerate(["a.png", "b.png", "c.png"])]
    sources = resolve(MANY[kind](paths))
    assert (sources.names, sources.single, sources.strict) == ([str(path) for path in paths], False, True)
    for (_, image), path in zip(decode_all(sources), paths, strict=True):
        assert np.array_equal(image, open_image(path))


def test_home_in_folders_and_globs(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree.parent))
    assert resolve("~/photos") == resolve(tree)
    assert resolve("~/photos/*.png") == resolve(tree / "*.png")
    monkeypatch.chdir(tree)
    (tree / "~x.png").write_bytes((tree / "b.png").read_bytes())
    assert resolve("~x.png").names == ["~x.png"]  # an existing file takes precedence


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (None, "image: expected a path, .* got NoneType"),
        (7, "got int"),
        ({"a.jpg": 1}, "got dict"),
        ({"bytes": None, "path": None}, "got dict"),
        (iter([7]), r"images\[0\]: .* got int"),
        ("http://x.org/y.jpg", "image: expected a local file, got the URL http://x.org/y.jpg: download it first"),
        (["s3://bucket/y.jpg"], r"images\[0\]: expected a local file, got the URL"),
        ("data:image/png;base64,A", "image: .*base64"),
        (io.StringIO("x"), "image: expected a binary file, got one of str"),
        (closed(), "image: I/O operation on closed file"),
        ("~/no/such.jpg", "no/such.jpg: no such file or folder"),
        ("file:///no/such.jpg", "/no/such.jpg: no such file or folder"),
        ({"no/such.jpg"}, "no/such.jpg: no such file or folder"),
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
def test_invalid_inputs_are_refused(images, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=reason) as caught:
        resolve(images)
    assert isinstance(caught.value, FileNotFoundError) == ("no such" in reason)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root can read everything")
def test_folders_without_read_permission(tree):
    (tree / "deep").chmod(0)
    try:
        rejected = [result for _, result in decode_all(resolve(tree)) if isinstance(result, Rejected)]
        assert [item.name for item in rejected] == [str(tree / "deep")]
        with pytest.raises(ImageError, match="cannot be read"):
            resolve(tree / "deep")
    finally:
        (tree / "deep").chmod(0o700)


def test_empty_folder(tmp_path):
    assert resolve(tmp_path) == Sources([], [], False, False)
    assert list(decode_all(resolve(tmp_path))) == []


def many(folder, draw, count=60, bad=(7, 30, 59)):
    for i in range(count):
        draw(folder / f"{i:03}.png", i)
    for i in bad:
        (folder / f"{i:03}.png").write_bytes(b"")
    return resolve(folder)


def test_results_are_in_order_and_match_single_reads(tmp_path, draw):
    sources = many(tmp_path / "photos", draw)
    transform = ImageTransform(16)
    opened, transformed = list(decode_all(sources)), list(decode_all(sources, transform.read))
    assert [place for place, _ in opened] == [place for place, _ in transformed] == list(range(60))
    for (place, image), (_, tensor) in zip(opened, transformed, strict=True):
        if place in (7, 30, 59):
            expected = Rejected(str(sources.items[place]), "expected an image, got an empty file")
            assert image == tensor == expected
        else:
            assert np.array_equal(image, open_image(sources.items[place]))
            assert torch.equal(tensor, transform(open_image(sources.items[place])))


def test_strict_sources_raise(tmp_path, draw):
    sources = many(tmp_path / "photos", draw)._replace(strict=True)
    seen = []
    with pytest.raises(ImageError, match=r"007\.png: expected an image, got an empty file"):
        seen.extend(place for place, _ in decode_all(sources))
    assert seen == list(range(7))
    for one in (tmp_path / "photos" / "007.png", [tmp_path / "photos" / "007.png"]):
        with pytest.raises(ImageError, match=r"007\.png: expected"):
            list(decode_all(resolve(one)))
    with pytest.raises(ImageError, match="image: expected an image, got an empty file"):
        list(decode_all(resolve(b"")))


def test_reading_ahead_is_limited():
    """The number of waiting results does not depend on the number of items, and threads end with the consumer."""
    count = 3 * MAX_THREADS * MAX_WAITING_PER_THREAD
    image = np.zeros((2, 2, 3), np.uint8)
    sources = Sources([image] * count, [str(i) for i in range(count)], False, True)
    started, before = [], threading.active_count()

    def read(item):
        started.append(item)
        return item

    reader = decode_all(sources, read)
    for i in range(10):
        assert next(reader)[0] == i
    assert len(started) <= MAX_THREADS * MAX_WAITING_PER_THREAD + 10
    reader.close()
    assert threading.active_count() == before
    assert len(started) < count


def test_other_errors_of_read_are_raised(tmp_path, draw):
    def read(item):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(decode_all(many(tmp_path, draw), read))


def test_the_same_lazy_image_many_times(tmp_path, draw):
    with Image.open(draw(tmp_path / "a.png", 0)) as image:
        results = [result for _, result in decode_all(resolve([image] * 40))]
    assert len(results) == 40
    assert all(np.array_equal(result, open_image(tmp_path / "a.png")) for result in results)


@dataclasses.dataclass(frozen=True)
class SignalTransform:
    """A preprocessor of another modality: text files with one number per line, or 1-D arrays, to float32 [T]."""

    length: int

    modality = "signal"
    suffixes = (".sig",)
    item_ndim = 1
    error = InputError

    def read(self, source):
        try:
            values = np.loadtxt(source, ndmin=1) if isinstance(source, Path) else np.asarray(source, np.float64)
        except ValueError as error:
            raise InputError(f"expected numbers, got {error}") from error
        return torch.from_numpy(values[: self.length]).float()

    def collate(self, items):
        return torch.stack(items)

    def to_dict(self):
        return {"kind": "signal", "length": self.length}

    def files(self):
        return {}

    @property
    def fingerprint(self):
        return repr(self)


@pytest.fixture
def signal():
    PREPROCESSORS.register("signal", SignalTransform)
    yield SignalTransform(3)
    PREPROCESSORS.unregister("signal")


def test_another_modality_registered_from_outside(signal, tmp_path):
    preprocessor: Preprocessor = signal
    save_preprocessor(preprocessor, tmp_path)
    assert load_preprocessor(preprocessor.to_dict(), tmp_path) == preprocessor
    with pytest.raises(ValueError, match=r"inputs\.length: expected int, got '3'"):
        load_preprocessor({"kind": "signal", "length": "3"}, tmp_path)


def test_sources_of_another_modality(signal, draw, tmp_path):
    for name, text in (("b.SIG", "4\n5\n6\n"), ("deep/a.sig", "1\n2\n3\n"), ("c.sig", "x"), (".d.sig", "7")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    draw(tmp_path / "image.png", 0)
    one, many = np.arange(3.0), np.arange(6.0).reshape(2, 3)
    sources = resolve(tmp_path, signal)
    assert below(sources, tmp_path) == ["b.SIG", "c.sig", "deep/a.sig"]
    results = [result for _, result in decode_all(sources, signal.read)]
    assert signal.collate([results[0], results[2]]).tolist() == [[4, 5, 6], [1, 2, 3]]
    assert "expected numbers, got could not convert" in results[1].reason
    for given, names, single in (
        (one, ["signal"], True),
        (torch.from_numpy(one), ["signal"], True),
        ([one, tmp_path / "b.SIG"], ["signals[0]", str(tmp_path / "b.SIG")], False),
        (many, ["signals[0]", "signals[1]"], False),
        (torch.from_numpy(many), ["signals[0]", "signals[1]"], False),
    ):
        sources = resolve(given, signal)
        assert (sources.names, sources.single, sources.strict) == (names, single, True)
        assert len(list(decode_all(sources, signal.read))) == len(names)
    for given, reason in (
        (None, "signal: expected a path, .* got NoneType"),
        ([one, 7], r"signals\[1\]: expected a path, .* got int"),
        ("no/such.sig", "no/such.sig: no such file or folder"),
        (str(tmp_path / "no" / "*.sig"), "no such folder"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            resolve(given, signal)
        assert not isinstance(caught.value, ImageError)
        assert isinstance(caught.value, FileNotFoundError) == ("no such" in reason)
    with pytest.raises(InputError, match=r"signals\[0\]: expected numbers, got"):
        list(decode_all(resolve([np.array(["x"])], signal), signal.read))
