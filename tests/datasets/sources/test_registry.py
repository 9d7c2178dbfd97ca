import pytest

from multimodal.datasets import open_source


@pytest.fixture
def photos(tmp_path, jpeg):
    for name in ("cat/0.jpg", "dog/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(jpeg(0))
    return tmp_path


def test_the_kind_is_found_by_what_lies_there(photos, shard, pairs, tmp_path):
    assert [sample.label for sample in open_source(photos)] == ["cat", "dog"]
    table = photos / "captions.csv"
    table.write_text("image,caption\ncat/0.jpg,a tabby cat\n")
    assert open_source(table)[0].captions == ("a tabby cat",)
    assert open_source(photos)[0].captions == ("a tabby cat",)  # the table in a folder
    tar = shard(pairs(3))
    assert len(open_source(tar)) == 3
    assert len(open_source(photos)) == 3  # shards before tables before folders


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: path / "nothing", FileNotFoundError, "no data at .*nothing: expected a .tar"),
        (lambda path: path, ValueError, "got an empty folder"),
        (lambda path: written(path / "notes.txt", "hello"), ValueError, "notes.txt:1: it has no image"),
        (lambda path: written(path / "README", "hello"), ValueError, "got a file without a suffix"),
        (lambda path: written(path / "a.txt", "hello").parent, ValueError, "a.txt: expected a suffix of image"),
        (lambda path: written(path / "a.tar", ""), ValueError, "expected samples, got 0 samples"),
        (lambda path: written(path / "a.csv", "image,caption\nx.jpg,y\n"), ValueError, "there is no file"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(tmp_path, make, error, message):
    with pytest.raises(error, match=message) as caught:
        open_source(make(tmp_path))
    assert "\n" not in str(caught.value)


def written(path, text):
    path.write_text(text)
    return path
