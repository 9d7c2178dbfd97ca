import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.datasets import SOURCES, SourceOptions
from multimodal.datasets.sources.record import MAX_RECORD_BYTES
from multimodal.preprocess import clean_caption


def read_table(path, templates=None):
    return SOURCES["table"].read(path, SourceOptions(templates))


@pytest.fixture
def table(tmp_path, jpeg):
    """table(content, name): the file, beside the images img/0.jpg to img/3.jpg and z.jpg."""
    (tmp_path / "img").mkdir()
    for i in range(4):
        (tmp_path / "img" / f"{i}.jpg").write_bytes(jpeg(i))
    (tmp_path / "z.jpg").write_bytes(jpeg(9))

    def table(content, name):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return table


def reasons(source):
    return {item.name: item.reason for item in source.rejected}


def rows(source):
    return [(sample.name, sample.captions, sample.label) for sample in source]


@pytest.mark.parametrize("column", ["image", "path", "filename", " Image "])
def test_csv_columns(table, tmp_path, column):
    source = read_table(table(f'id,{column},caption,label\n7,img/0.jpg,"one, two",cat\n8,z.jpg,three,\n', "t.csv"))
    assert rows(source) == [("img/0.jpg", ("one, two",), "cat"), ("z.jpg", ("three",), None)]
    assert source.rejected == []
    assert source[0].inputs["image"] == tmp_path / "img/0.jpg"  # relative to the table


def test_paths_are_relative_to_the_table_and_not_to_where_we_are(table, tmp_path, monkeypatch):
    path = table("image,caption\nimg/0.jpg,one\n", "t.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_table(path)[0].inputs["image"].read_bytes() == (tmp_path / "img/0.jpg").read_bytes()


def test_rows_of_one_image_are_one_sample(table):
    text = "image,caption\nimg/1.jpg,b\nimg/0.jpg,a\nimg/1.jpg,c\nimg/1.jpg,b\n"
    assert rows(read_table(table(text, "t.csv"))) == [("img/1.jpg", ("b", "c"), None), ("img/0.jpg", ("a",), None)]


def test_jsonl_with_one_caption_or_several(table):
    lines = [
        {"image": "img/0.jpg", "captions": ["one", "two"], "label": "cat"},
        {"path": "img/1.jpg", "caption": "three"},
        {"filename": "img/2.jpg", "label": 5},
        {"image": "img/1.jpg", "captions": ["four", "three"]},
    ]
    path = table("\n\n".join(map(json.dumps, lines)), "t.jsonl")
    source = read_table(path, ["number {}"])
    assert rows(source) == [
        ("img/0.jpg", ("one", "two"), "cat"),
        ("img/1.jpg", ("three", "four"), None),
        ("img/2.jpg", ("number 5",), "5"),
    ]
    assert reasons(read_table(path)) == {"t.jsonl:5": "it has no captions and no templates were given for its label"}


def test_bad_jsonl_lines_are_named_by_number_and_the_rest_goes_on(table):
    lines = [
        b'{"image": "img/0.jpg", "caption": "one"}',
        b'{"image": "img/1.jpg", ',
        b'{"image": "img/1.jpg", "caption": "\xff"}',
        b"[1, 2]",
        b'{"caption": "no image"}',
        b'{"image": "gone.jpg", "caption": "x"}',
        b'{"image": "a\\u0000b.jpg", "caption": "x"}',
        b'{"image": "img/2.jpg", "captions": 3}',
        b'{"image": "img/2.jpg", "caption": "' + b"x" * MAX_RECORD_BYTES + b'"}',
        b'{"image": "' + b"n" * 5000 + b'.jpg", "caption": "x"}',
        b'{"image": "img", "caption": "a folder"}',
        b'{"image": "img/0.jpg", "caption": "two", "label": "cat"}',
        b'{"image": "img/0.jpg", "caption": "two", "label": "dog"}',
        b'\xef\xbb\xbf{"image": "img/3.jpg", "caption": "last"}',
    ]
    source = read_table(table(b"\n".join(lines), "t.jsonl"))
    assert rows(source) == [("img/0.jpg", ("one", "two"), "cat"), ("img/3.jpg", ("last",), None)]
    found = reasons(source)
    assert set(found) == {f"t.jsonl:{number}" for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)}
    for number, reason in {
        2: "cannot be read", 3: "not valid Unicode", 4: "must be an object, got list", 5: "names no image",
        6: "there is no file gone.jpg", 7: "names no image", 8: "a string or a list of strings",
        9: "longer than", 11: "there is no file img", 13: "label 'dog', but 'cat' in t.jsonl:1",
    }.items():  # fmt: skip
        assert reason in found[f"t.jsonl:{number}"]


def test_bad_csv_rows_are_named_by_line(table):
    text = 'image,caption\nimg/0.jpg,"two\nlines"\nimg/1.jpg\nimg/1.jpg,a,b\n,none\ngone.jpg,x\n\nimg/2.jpg,good\n'
    source = read_table(table(text, "t.csv"))
    assert rows(source) == [("img/0.jpg", ("two\nlines",), None), ("img/2.jpg", ("good",), None)]
    assert {name: reason[:20] for name, reason in reasons(source).items()} == {
        "t.csv:4": "it has 1 fields, the",
        "t.csv:5": "it has 3 fields, the",
        "t.csv:6": "it names no image (e",
        "t.csv:7": "there is no file gon",
    }


def test_a_csv_without_the_columns(table):
    for text in ("a,b\n1,2\n", "image,b\n1,2\n", "caption\nx\n", ""):
        with pytest.raises(ValueError, match="expected columns for image and caption"):
            read_table(table(text, "t.csv"))


def test_encodings(table):
    source = read_table(table("\ufeffimage,caption\nimg/0.jpg,süß 猫\n", "t.csv"))
    assert rows(source) == [("img/0.jpg", ("süß 猫",), None)]
    source = read_table(table("image,caption\nimg/0.jpg,caf\xe9\nimg/1.jpg,fine\n".encode("latin-1"), "t.csv"))
    assert rows(source) == [("img/0.jpg", ("café",), None), ("img/1.jpg", ("fine",), None)]
    damaged = "image,caption\nimg/0.jpg,caf\xe9\n".encode("latin-1") + "img/1.jpg,süß\n".encode()
    source = read_table(table(damaged, "t.csv"))
    assert rows(source) == [("img/1.jpg", ("süß",), None)]
    assert reasons(source) == {"t.csv:2": "its text is not valid Unicode"}


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT.filter(lambda text: clean_caption(text)), min_size=1, max_size=5))
def test_csv_and_jsonl_say_the_same(tmp_path_factory, jpeg, texts):
    folder = tmp_path_factory.mktemp("tables")
    for i in range(len(texts)):
        (folder / f"{i}.jpg").write_bytes(b"never opened")
    with open(folder / "t.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *((f"{i}.jpg", text) for i, text in enumerate(texts))])
    lines = [json.dumps({"image": f"{i}.jpg", "caption": text}) for i, text in enumerate(texts)]
    (folder / "t.jsonl").write_text("\n".join(lines))
    expected = [(f"{i}.jpg", (text.strip(),), None) for i, text in enumerate(texts)]
    assert rows(read_table(folder / "t.csv")) == expected
    assert rows(read_table(folder / "t.jsonl")) == expected
