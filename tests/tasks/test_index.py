import os
import re
import shutil
import sqlite3
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from multimodal.files import printable
from multimodal.preprocess import ImageError
from multimodal.results import Hit, Results
from multimodal.tasks import Index, indexing


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def seen(model):
    """Grows by the number of images of each pass through the image tower."""
    counts = []
    model.network.encoders["image"].register_forward_hook(lambda _, args, __: counts.append(len(args[0])))
    return counts


@pytest.fixture
def index(model, photos, tmp_path):
    with model.index(photos, path=tmp_path / "photos.db") as index:
        yield index


def age(folder, seconds=100):
    """Make the files look older than a moment, so that their times are trusted."""
    for path in folder.rglob("*.png"):
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - seconds * 10**9))


def names(index):
    return sorted(Path(hit.path).name for hit in index.search("anything", k=1000))


def check(index, model, photos):
    """What the index holds is what embedding the folder from scratch gives."""
    paths = sorted(photos.rglob("*.png"))
    expected = model.embed_images(paths)
    assert len(index) == len(paths)
    for path, embedding in zip(paths, expected, strict=True):
        hits = index.search(embedding, k=1)
        assert hits[0].path == str(path)
        assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_search(index, model, photos):
    check(index, model, photos)
    assert index.changes == (6, 0, 0)
    assert index.rejected == []
    results = index.search("a cat on the grass", k=4)
    assert isinstance(results, Results)
    assert all(isinstance(hit, Hit) for hit in results)
    paths = sorted(photos.rglob("*.png"))
    cosine = model.similarity(paths, "a cat on the grass")[:, 0]
    order = cosine.argsort(descending=True)[:4]
    assert [hit.path for hit in results] == [str(paths[i]) for i in order]
    assert [hit.score for hit in results] == pytest.approx(cosine[order].tolist(), abs=1e-5)
    assert results[0].image.size == (40, 48)


def test_queries(index, model, photos):
    path = photos / "sub folder" / "4.png"
    embedding = model.embed_images(path)
    expected = index.search(path, k=3)
    assert expected[0].path == str(path)
    for query in (
        path.read_bytes(),
        Image.open(path).convert("RGB"),
        np.array(Image.open(path).convert("RGB")),
        embedding,
        embedding[0],
        7 * embedding[0].double(),
        embedding.numpy(),
        embedding[0].numpy(),
    ):
        found = index.search(query, k=3)
        assert [hit.path for hit in found] == [hit.path for hit in expected]
        assert found[0].score == pytest.approx(1, abs=1e-5)
    # a str is a text, even where it is the name of a file
    assert index.search("photos/0.png", k=1)[0].score == pytest.approx(
        model.similarity(photos, "photos/0.png").max().item(), abs=1e-5
    )


def test_queries_that_are_refused(index, photos):
    for k in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="k: expected a whole number of at least 1"):
            index.search("a cat", k=k)
    for embedding in (torch.zeros(16), torch.ones(3), torch.full((16,), torch.nan), np.ones(17)):
        with pytest.raises(ValueError, match=r"expected a finite embedding \[16\] that is not zero"):
            index.search(embedding)
    for many in (photos, [photos], photos / "*.png"):
        with pytest.raises(ValueError, match=r"expected texts, images or embeddings, got [46] images"):
            index.search(many)
    with pytest.raises(ImageError):
        index.search(photos / "none.png")


def test_ks(index):
    assert [len(index.search("a cat", k=k)) for k in (1, 5, 6, 7, 1000)] == [1, 5, 6, 6, 6]


def test_an_empty_folder(model, tmp_path):
    (tmp_path / "photos").mkdir()
    with model.index(tmp_path / "photos", path=tmp_path / "x.db") as index:
        assert len(index) == 0
        assert index
        assert index.search("a cat") == []


def test_only_what_is_new_or_changed_is_embedded(model, seen, photos, tmp_path, draw):
    path = tmp_path / "deep" / "photos.db"
    age(photos)
    model.index(photos, path=path).close()
    assert sum(seen) == 6
    seen.clear()

    with model.index(photos, path=path) as index:  # nothing happened
        assert index.changes == (0, 6, 0)
    assert seen == []

    draw(photos / "new.png", 10)
    draw(photos / "0.png", 11)  # new contents
    (photos / "1.png").unlink()
    os.utime(photos / "2.png")  # the same contents
    (photos / "3.png").rename(photos / "renamed.png")
    shutil.copy(photos / "2.png", photos / "copy.png")
    with model.index(photos, path=path) as index:
        assert index.changes == (2, 5, 2)
        assert sum(seen) == 2
        assert names(index) == ["0.png", "2.png", "4.png", "5.png", "copy.png", "new.png", "renamed.png"]
        # two equal files: in the order of their paths
        hits = index.search(photos / "2.png", k=2)
        assert [Path(hit.path).name for hit in hits] == ["2.png", "copy.png"]
        draw(photos / "copy.png", 12)
        index.update()
        assert index.changes == (1, 6, 0)
        check(index, model, photos)


def test_a_change_within_the_same_moment_is_seen(model, photos, tmp_path):
    """Same size, same time to the nanosecond, other contents, right after the first run."""
    path, victim = tmp_path / "photos.db", photos / "0.bmp"
    Image.new("RGB", (40, 40), (200, 0, 0)).save(victim)
    stat = victim.stat()
    with model.index(photos, path=path) as index:
        Image.new("RGB", (40, 40), (0, 0, 255)).save(victim)
        os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert victim.stat().st_size == stat.st_size
        index.update()
        assert index.changes == (1, 6, 0)
        assert index.search(victim, k=1)[0].path == str(victim)


def test_unreadable_files(model, photos, tmp_path, draw):
    (photos / "broken.png").write_bytes(b"\x89PNG")
    (photos / "empty.png").touch()
    with pytest.warns(UserWarning, match=r"2 of 8 images could not be used: .*broken\.png: ") as caught:
        index = model.index(photos, path=tmp_path / "photos.db")
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the line of the caller
    assert [Path(item.name).name for item in index.rejected] == ["broken.png", "empty.png"]
    assert len(index) == 6
    assert index.changes == (6, 0, 0)
    # one is mended, another breaks
    draw(photos / "broken.png", 20)
    (photos / "0.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="2 of 8"):
        index.update()
    assert [Path(item.name).name for item in index.rejected] == ["0.png", "empty.png"]
    assert index.changes == (1, 5, 1)
    assert names(index) == ["1.png", "2.png", "3.png", "4.png", "5.png", "broken.png"]
    index.close()


def test_names_of_all_kinds(model, photos, tmp_path, draw):
    for i, name in enumerate(["ä ö.png", "#?%25.png", "line\nbreak.png", os.fsdecode(b"not\xffutf8.png")]):
        try:
            draw(photos / name, 30 + i)
        except OSError:  # not every file system takes every name
            continue
    with model.index(photos, path=tmp_path / "a?b#c%20.db") as index:
        check(index, model, photos)
    assert (tmp_path / "a?b#c%20.db").is_file()


def test_open(index, model, photos, tmp_path):
    index.close()
    shutil.rmtree(photos)  # no image is read
    with Index.open(tmp_path / "photos.db", model) as again:
        assert len(again) == 6
        assert again.folder == photos
        assert again.path == tmp_path / "photos.db"
        assert again.search("a cat", k=1)[0]._repr_html_().count("<img") == 0
        with pytest.raises(FileNotFoundError, match=r"folder: expected a folder, got .*, which does not exist"):
            again.update()
        assert len(again) == 6
    with pytest.raises(ValueError, match="closed"):
        again.search("a cat")
    assert "photos.db" in repr(again)


def test_another_model_is_refused(index, make_model, photos, tmp_path):
    other = make_model(seed=1, name="other")
    for call in (
        lambda: Index.open(tmp_path / "photos.db", other),
        lambda: other.index(photos, path=tmp_path / "photos.db"),
    ):
        with pytest.raises(ValueError, match="cannot be compared") as error:
            call()
        for part in ("tiny", index.model.fingerprint[:12], "other", other.fingerprint[:12]):
            assert part in str(error.value)
    with Index.open(tmp_path / "photos.db", make_model(decoder=False, name="renamed")) as same:
        assert len(same) == 6 or pytest.fail("the towers are equal")


def test_other_folders(index, model, photos, tmp_path, seen):
    index.close()
    (tmp_path / "others").mkdir()
    with pytest.raises(ValueError, match=r"photos\.db: expected the index of .*others, got the index of .*photos"):
        model.index(tmp_path / "others", path=tmp_path / "photos.db")
    with Index.open(tmp_path / "photos.db", model) as again:
        assert len(again) == 6
    # a folder that has moved keeps its vectors
    seen.clear()
    photos.rename(tmp_path / "moved")
    with model.index(tmp_path / "moved", path=tmp_path / "photos.db") as again:
        assert again.changes == (0, 6, 0)
        assert seen == []
        check(again, model, tmp_path / "moved")


def test_paths_that_are_refused(model, photos, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder: expected a folder, got .*, which does not exist"):
        model.index(tmp_path / "none", path=tmp_path / "x.db")
    with pytest.raises(ValueError, match="expected a folder"):
        model.index(photos / "0.png", path=tmp_path / "x.db")
    with pytest.raises(ValueError, match="is not a file"):
        model.index(photos, path=photos)
    with pytest.raises(FileNotFoundError, match=r"expected an index, got .*, which does not exist"):
        Index.open(tmp_path / "x.db", model)
    assert not (tmp_path / "x.db").exists()
    content = (photos / "0.png").read_bytes()
    with pytest.raises(ValueError, match=r"expected an index, got (another|a damaged)"):
        model.index(photos, path=photos / "0.png")
    assert (photos / "0.png").read_bytes() == content
    connection = sqlite3.connect(tmp_path / "theirs.db")
    connection.execute("CREATE TABLE songs (title)")
    connection.close()
    with pytest.raises(ValueError, match=r"expected an index, got (another|a damaged)"):
        model.index(photos, path=tmp_path / "theirs.db")


def test_paths_are_shown_from_here(model, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with model.index("photos", path="photos.db") as index:
        hits = index.search("a cat", k=6)
    assert sorted(hit.path for hit in hits)[0] == str(Path("photos/0.png"))
    monkeypatch.chdir(tmp_path.parent)
    assert hits[0].image.size == (40, 48)  # found from anywhere


def test_an_interrupted_run_keeps_what_it_has(model, photos, tmp_path, monkeypatch, seen):
    monkeypatch.setattr(indexing, "FILES_PER_COMMIT", 2)

    def stop(*_):
        if len(seen) == 2:  # the third batch never ends
            raise KeyboardInterrupt

    handle = model.network.encoders["image"].register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        model.index(photos, path=tmp_path / "photos.db")
    handle.remove()
    with Index.open(tmp_path / "photos.db", model) as index:
        assert len(index) == 4
    seen.clear()
    with model.index(photos, path=tmp_path / "photos.db") as index:
        assert sum(seen) == 2
        assert index.changes == (2, 4, 0)
        check(index, model, photos)


def test_another_process_renews_the_index(index, model, photos, tmp_path, draw):
    assert len(index.search("a cat", k=100)) == 6
    draw(photos / "new.png", 40)
    with model.index(photos, path=tmp_path / "photos.db"):
        pass
    assert len(index.search("a cat", k=100)) == 7


def test_threads(index):
    expected = [hit.path for hit in index.search("a cat", k=6)]
    found = []
    threads = [
        threading.Thread(target=lambda: found.append([hit.path for hit in index.search("a cat", k=6)]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def several(index, model, photos):
    """Several queries of each kind, and the single ones that they stand for."""
    paths = [photos / "1.png", photos / "2.png", photos / "sub folder" / "4.png"]
    texts = ["a cat", "a fox on grass", "two squares"]
    embeddings = model.embed_texts(texts)
    arrays = [np.array(Image.open(path).convert("RGB")) for path in paths]
    return {
        "texts": (texts, texts),
        "tuple": (tuple(texts), texts),
        "generator": ((text for text in texts), texts),
        "array of texts": (np.array(texts), texts),
        "one text in a list": (texts[:1], texts[:1]),
        "none": ([], []),
        "embeddings": (embeddings, texts),
        "embeddings of NumPy": (embeddings.numpy(), texts),
        "embeddings in double": (embeddings.double().numpy() * 3, texts),
        "list of embeddings": (list(embeddings), texts),
        "no embeddings": (embeddings[:0], []),
        "paths": (paths, paths),
        "bytes": ([path.read_bytes() for path in paths], paths),
        "PIL": ([Image.open(path) for path in paths], paths),
        "batch": (np.stack(arrays), paths),
        "tensors": (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2), paths),
        "mixed": ([texts[0], paths[1], embeddings[2]], [texts[0], paths[1], texts[2]]),
    }


def test_several_queries(index, model, photos):
    for kind, (queries, single) in several(index, model, photos).items():
        found = index.search(queries, k=np.int64(4))
        assert type(found) is list, kind
        assert len(found) == len(single), kind
        for hits, query in zip(found, single, strict=True):
            expected = index.search(query, k=4)
            assert isinstance(hits, Results)
            assert [hit.path for hit in hits] == [hit.path for hit in expected], kind
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)


@pytest.mark.parametrize("query", ["0.png", "sub folder/4.png", "./1.png", "../photos/2.png", "~/3.png"])
def test_a_text_that_is_a_file_is_told(index, photos, monkeypatch, query):
    monkeypatch.chdir(photos)
    monkeypatch.setenv("HOME", str(photos))
    with pytest.warns(UserWarning, match=rf"query: {re.escape(query)} is a file, .* searched for as a text") as warned:
        index.search(query)
    assert len(warned) == 1
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    "query", ["photos", "no.png", "a cat", "a" * 5000, "x\0y", "~ about", "~nobody/x.png", "sub folder"]
)
def test_a_text_that_is_no_file_is_not(index, photos, monkeypatch, query, recwarn):
    monkeypatch.chdir(photos)
    index.search(query)
    assert not [each for each in recwarn if "is a file" in str(each.message)]


@pytest.fixture
def read_only(monkeypatch):
    """Open SQLite files as a read-only disk would give them, whoever runs the tests."""
    connect = sqlite3.connect

    def lock():
        monkeypatch.setattr(
            sqlite3, "connect", lambda name, **more: connect(re.sub("mode=rwc?", "mode=ro", name), **more)
        )

    return lock


@pytest.mark.parametrize("old", [False, True])
def test_a_read_only_index(model, photos, tmp_path, read_only, old, draw):
    if old:
        age(photos)
    model.index(photos, path=tmp_path / "x.db").close()
    before = (tmp_path / "x.db").read_bytes()
    read_only()
    with Index.open(tmp_path / "x.db", model) as index:
        check(index, model, photos)
    age(photos, 50)  # times alone
    with model.index(photos, path=tmp_path / "x.db") as index:
        assert index.changes == (0, 6, 0)
        check(index, model, photos)
    moved = photos.rename(tmp_path / "elsewhere")  # a share that is mounted elsewhere
    with model.index(moved, path=tmp_path / "x.db") as index:
        assert index.changes == (0, 6, 0)
        check(index, model, moved)
    for change in (
        lambda: draw(moved / "new.png", 9),
        lambda: (moved / "new.png").rename(moved / "0.png"),
        lambda: (moved / "0.png").unlink(),
        lambda: shutil.copy(moved / "1.png", moved / "copy.png"),
    ):
        change()
        with pytest.raises(OSError, match=r"x\.db: attempt to write a readonly database \(changes need a writable"):
            model.index(moved, path=tmp_path / "x.db")
    assert (tmp_path / "x.db").read_bytes() == before


STRANGE = [b"caf\xe9", b"two\nlines", b"\x1b7red", b"\xc2\x9b31m", b"bell\x07\x7f", "\u202egnp".encode(), b"\r\x08"]


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not allowed")
@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_are_shown_escaped_and_stay_openable(model, draw, tmp_path, monkeypatch, name):
    folder = tmp_path / os.fsdecode(name)
    image = draw(folder / "0.png", 0).rename(folder / os.fsdecode(name + b".png"))
    broken = folder / os.fsdecode(b"broken" + name + b".png")
    broken.write_bytes(b"no")
    path = tmp_path / os.fsdecode(name + b".db")
    shown = []
    with pytest.warns(UserWarning, match="1 of 2 images could not be used") as warned:
        index = model.index(folder, path)
    shown += [str(each.message) for each in warned]
    with index:
        hits = index.search("x")
        assert [hit.path for hit in hits] == [str(image)]
        assert hits[0].image.size == (40, 48)
        assert [item.name for item in index.rejected] == [str(broken)]
        shown += [str(hits), repr(hits), repr(index), str(index.rejected[0]), repr(index.rejected)]
        monkeypatch.chdir(folder)
        if name != b"caf\xe9":  # no text
            with pytest.warns(UserWarning, match="is a file") as warned:
                index.search(image.name)
            shown += [str(each.message) for each in warned]
    for mistake in (
        lambda: model.classify(broken, ["a"]),
        lambda: model.classify([image, broken], ["a"]),
        lambda: model.caption(folder / os.fsdecode(name)),
        lambda: model.embed_images(folder / os.fsdecode(b"no" + name)),
        lambda: index.search(folder / os.fsdecode(b"no" + name)),
        lambda: model.index(folder, folder),
        lambda: model.index(image, path),
        lambda: model.index(folder / os.fsdecode(name), path),
        lambda: model.index(tmp_path, path),
        lambda: Index.open(image, model),
        lambda: Index.open(folder / "none.db", model),
        index.__len__,
    ):
        with pytest.raises((ValueError, OSError)) as caught:
            mistake()
        shown.append(str(caught.value))
    for text in shown:
        text.encode("utf-8")
        assert printable(text.replace("\n", "")) == text.replace("\n", ""), text
