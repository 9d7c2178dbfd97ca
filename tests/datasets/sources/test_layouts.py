"""Folders, tables and shards as public data sets and tools write them."""

import json

import pytest

from multimodal.datasets import open_source


@pytest.fixture
def put(tmp_path, jpeg):
    """put({name: text, bytes, a JSON value, or None for an image}) -> the folder"""

    def put(files):
        for i, (name, content) in enumerate(files.items()):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                content = jpeg(i)
            elif not isinstance(content, str | bytes):
                content = json.dumps(content, ensure_ascii=False)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return put


def captions(source):
    return sorted(text for entry in source.entries for text in entry.captions)


def pairs(source):
    """Which image has which captions."""
    return {entry.inputs["image"].name: entry.captions for entry in source.entries}


IMG2DATASET = {
    f"{shard}/{shard}{i:04d}{suffix}": content
    for shard in ("00000", "00001")
    for i in range(2)
    for suffix, content in (
        (".jpg", None), (".txt", f"text {shard} {i}"), (".json", {"caption": f"text {shard} {i}", "status": "success"})
    )
}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            IMG2DATASET | {"00000_stats.json": {"count": 2}, "00001_stats.json": {"count": 2}},
            {f"{shard}000{i}.jpg": (f"text {shard} {i}",) for shard in ("00000", "00001") for i in range(2)},
        ),
        ({"10_dog/0.png": None, "10_dog/0.txt": "my dog", "10_dog/1.png": None}, {"0.png": ("my dog",)}),
        ({"a.jpg": None, "a.txt": "one", "b.PNG": None, "b.caption": "two"}, {"a.jpg": ("one",), "b.PNG": ("two",)}),
        ({"x/a.jpg": None, "x/a.json": {"captions": ["1", "2"]}, "y/b.jpg": None}, {"a.jpg": ("1", "2")}),
        ({"x/a.v1.jpg": None, "x/a.v1.txt": "one", "x/a.v2.jpg": None, "x/a.v2.txt": "two"},
         {"a.v1.jpg": ("one",), "a.v2.jpg": ("two",)}),
        ({"x/a.jpg": None, "x/a.json": {"title": "of the page"}, "x/a.txt": "a cat"}, {"a.jpg": ("a cat",)}),
        ({"x/a.jpg": None, "x/a.json": {"caption": "a cat"}, "x/a.txt": "alt text"}, {"a.jpg": ("a cat",)}),
        ({"x/a.jpg": None, "x/a.json": {"title": "a page"}}, {"a.jpg": ("a page",)}),
    ],
)  # fmt: skip
def test_texts_beside_images(put, files, expected):
    source = open_source(put(files))
    assert pairs(source) == expected
    assert {entry.label for entry in source.entries} == {None}
    images = {name for name, content in files.items() if content is None}
    assert len(source) + sum(item.name in images for item in source.rejected) == len(images)


def test_class_names_beside_texts_only_on_request(put):
    folder = put({"cat/a.jpg": None, "cat/a.txt": "a tabby", "dog/b.jpg": None})
    assert [(entry.label, entry.captions) for entry in open_source(folder, ["a {}"]).entries] == [
        ("cat", ("a tabby",)),
        ("dog", ("a dog",)),
    ]


ROWS = [{"file_name": f"{i}.jpg", "text": f"text {i}"} for i in range(3)]
METADATA = {
    "metadata.jsonl": "\n".join(map(json.dumps, ROWS)),
    "metadata.csv": "file_name,text\n" + "".join(f"{row['file_name']},{row['text']}\n" for row in ROWS),
}


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("place", ["", "train/"])
def test_imagefolders(put, name, place):
    folder = put(
        {place + name: METADATA[name], place + "notes.csv": "a,b\n"} | {f"{place}{i}.jpg": None for i in range(3)}
    )
    assert pairs(open_source(folder)) == {f"{i}.jpg": (f"text {i}",) for i in range(3)}


@pytest.mark.parametrize(
    "names",
    [("train", "val"), ("train", "test"), ("training", "validation"), ("train2017", "val2017"), ("dev", "test")],
)
@pytest.mark.parametrize("kind", ["shards", "metadata", "classes", "texts"])
def test_splits_are_never_mixed_and_never_classes(put, tar_bytes, jpeg, names, kind):
    files = {}
    for name in names:
        files |= {
            "shards": {f"{name}/0.tar": tar_bytes([("0.jpg", jpeg(0)), ("0.txt", name.encode())])},
            "metadata": {f"{name}/0.jpg": None, f"{name}/metadata.csv": f"file_name,text\n0.jpg,{name}\n"},
            "classes": {f"{name}/cat/0.jpg": None},
            "texts": {f"{name}/0.jpg": None, f"{name}/0.txt": name},
        }[kind]
    folder = put(files)
    with pytest.raises(ValueError, match=f"expected one split, got {', '.join(sorted(names))}"):
        open_source(folder)
    [text] = captions(open_source(folder, split=names[0]))
    assert text == ("a photo of a cat" if kind == "classes" else names[0])


def test_a_table_below_is_not_overlooked(put):
    folder = put({"Images/0.jpg": None, "text/captions.csv": "image,caption\n0.jpg,a cat\n"})
    with pytest.raises(ValueError, match=r"expected a path to a table, got a folder with text/captions\.csv"):
        open_source(folder)
    assert open_source(folder, ["{}"]).entries[0].captions == ("Images",)


COLUMNS = [
    ("image_path", "caption"), ("filepath", "title"), ("file_name", "text"), ("image", "title"), ("path", "caption_1"),
    ("filename", "sentence"), ("IMG", "Comment"), ("Image Name", "Caption"), ("file", "description"),
]  # fmt: skip


@pytest.mark.parametrize("columns", [*COLUMNS, None])
@pytest.mark.parametrize("mark", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
def test_columns_and_delimiters(put, columns, mark, name):
    header = "" if columns is None else mark.join(columns) + "\n"
    text = header + f'i/0.jpg{mark}a cat\r\n\r\ni/1.jpg{mark}"two, {mark} ""marks"""\r\n'
    folder = put({"i/0.jpg": None, "i/1.jpg": None, name: text})
    assert pairs(open_source(folder / name)) == {"0.jpg": ("a cat",), "1.jpg": (f'two, {mark} "marks"',)}
    assert pairs(open_source(folder)) == pairs(open_source(folder / name))


@pytest.mark.parametrize("header", ["foo,bar,caption", "FOO,x,BAR", "image,foo,bar"])
def test_named_columns(put, header):
    names = header.lower().split(",")
    row = ",".join({"foo": "0.jpg", "bar": "a cat"}.get(name, "1.jpg") for name in names)
    folder = put(
        {"0.jpg": None, "1.jpg": None, "t.csv": f"{header}\n{row}\n", "t.jsonl": {"foo": "0.jpg", "bar": "a cat"}}
    )
    for table in ("t.csv", "t.jsonl"):
        assert pairs(open_source(folder / table, image_key="foo", caption_key="bar")) == {"0.jpg": ("a cat",)}
    with pytest.raises(ValueError, match="expected columns for fo and bar"):
        open_source(folder / "t.csv", image_key="fo", caption_key="bar")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,caption_1,caption_2,caption_3\n0.jpg,a,b,c\n", ("a", "b", "c")),
        ("image,Caption 1,Caption 2\n0.jpg,a,b\n", ("a", "b")),
        ("image,caption,caption\n0.jpg,a,b\n", ("a", "b")),
        ('filename,raw\n0.jpg,"[""a"", ""b""]"\n', ("a", "b")),
        ("image,caption,title\n0.jpg,a,b\n", ("a",)),
        ("image,caption,title\n0.jpg,,b\n", ("b",)),
    ],
)
def test_several_captions_in_a_row(put, text, expected):
    assert pairs(open_source(put({"0.jpg": None, "t.csv": text}) / "t.csv")) == {"0.jpg": expected}


@pytest.mark.parametrize("cell", ["nan", "NaN", "NULL", "null", "None", "N/A", "<NA>", "n/a", " ", ""])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_missing_cells_are_no_captions(put, cell, name):
    rows = [("0.jpg", cell), ("1.jpg", "none of them"), ("2.jpg", f"{cell} and more")]
    lines = [json.dumps({"image": image, "caption": text}) for image, text in rows]
    text = "image,caption\n" + "".join(f"{image},{text}\n" for image, text in rows)
    folder = put({"t.csv": text, "t.jsonl": "\n".join(lines)} | {image: None for image, _ in rows})
    source = open_source(folder / name)
    assert pairs(source) == {"1.jpg": ("none of them",), "2.jpg": (f"{cell} and more".strip(),)}
    assert [item.reason for item in source.rejected] == ["it has no captions"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json"])
def test_encodings(put, encoding, name):
    text = {
        "t.csv": "image,caption\n0.jpg,un café à Zürich\n",
        "t.jsonl": '{"image": "0.jpg", "caption": "un café à Zürich"}\n',
        "t.json": '[{"image": "0.jpg", "caption": "un café à Zürich"}]',
    }[name]
    folder = put({"0.jpg": None, name: text.encode(encoding)})
    assert pairs(open_source(folder / name)) == {"0.jpg": ("un café à Zürich",)}


@pytest.mark.parametrize(
    ("text", "encoding"), [("кошка на окне", "cp1251"), ("窓辺の猫", "shift-jis"), ("窗台上的猫", "gbk"),
                           ("고양이 한 마리", "euc-kr"), ("γάτα στο παράθυρο", "cp1253")]
)  # fmt: skip
def test_other_encodings_are_refused_and_not_guessed(put, text, encoding):
    folder = put({"0.jpg": None, "t.csv": f"image,caption\n0.jpg,{text * 3}\n".encode(encoding)})
    with pytest.raises(ValueError, match=r"t\.csv: expected text in UTF-8, UTF-16 or Windows-1252"):
        open_source(folder / "t.csv")


def test_paths_in_cells(put):
    folder = put(
        {"a/0.jpg": None, "a/1 x.jpg": None, "b/c/2.jpg": None, "Images/3.jpg": None, "x/4.jpg": None, "y/4.jpg": None}
    )
    cells = ["a\\0.jpg", (folder / "a/1 x.jpg").as_uri(), str(folder / "b/c/2.jpg"), "3.jpg", "4.jpg", "../5.jpg"]
    put({"t.csv": "image,caption\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells))})
    source = open_source(folder / "t.csv")
    assert pairs(source) == {name: (str(i),) for i, name in enumerate(["0.jpg", "1 x.jpg", "2.jpg", "3.jpg"])}
    ambiguous, missing = source.rejected
    assert "expected one file 4.jpg, got" in ambiguous.reason
    assert missing.reason == "there is no file ../5.jpg"


FLICKR = {f"0.jpg#{i}": f"A dog {i} ." for i in range(5)}
TOKEN = "".join(f"{name}\t{text}\n" for name, text in FLICKR.items())
QUOTES = TOKEN.replace("A dog 3", '"A" dog" 3').replace("A dog 4", '"A dog 4')  # as captions have them
KARPATHY = {
    "dataset": "coco",
    "images": [
        {"filepath": "val2014", "filename": "0.jpg", "split": "test", "sentences": [{"raw": "one"}, {"raw": "two"}]},
        {"filepath": "train2014", "filename": "1.jpg", "split": "train", "sentences": [{"raw": "three"}]},
    ],
}
COCO = {
    "images": [{"id": 7, "file_name": "0.jpg"}],
    "annotations": [{"image_id": 7, "id": i, "caption": text} for i, text in enumerate(("one", "two"))],
}


@pytest.mark.parametrize(
    ("image", "table", "content", "expected"),
    [
        ("Images/0.jpg", "captions.txt", "image,caption\n" + "".join(f"0.jpg,{x}\n" for x in FLICKR.values()), 5),
        ("Flicker8k_Dataset/0.jpg", "Flickr8k.token.txt", TOKEN, 5),
        ("Flicker8k_Dataset/0.jpg", "Flickr8k_text/Flickr8k.token.txt", TOKEN, 5),
        ("images/0.jpg", "results_20130124.token", QUOTES, 5),
        ("flickr30k_images/0.jpg", "results.csv", "image_name| comment_number| comment\n"
         + "".join(f"0.jpg| {i}| {x}\n" for i, x in enumerate(FLICKR.values())) + "0.jpg| 4   A dog runs .\n", 5),
        ("val2014/0.jpg", "dataset_coco.json", KARPATHY, 2),
        ("val2014/0.jpg", "annotations/dataset_coco.json", KARPATHY, 2),
        ("0.jpg", "captions.json", COCO, 2),
        ("val2017/0.jpg", "annotations/captions_val2017.json", COCO, 2),
        ("images/0.jpg", "flickr30k_train.json", [{"image": "images/0.jpg", "caption": ["one", "two"]}], 2),
        ("0.jpg", "captions.json", {"0.jpg": ["one", "two"]}, 2),
    ],
)  # fmt: skip
def test_public_data_sets(put, image, table, content, expected):
    folder = put({image: None, "train2014/1.jpg": None, table: content})
    source = open_source(folder / table)
    [entry] = [entry for entry in source.entries if entry.inputs["image"].name == "0.jpg"]
    assert entry.inputs["image"].resolve() == (folder / image).resolve()
    assert len(entry.captions) == expected
    assert len(source.rejected) == (table == "results.csv")


def test_one_split_of_a_table(put):
    folder = put({"val2014/0.jpg": None, "train2014/1.jpg": None, "d.json": KARPATHY})
    assert captions(open_source(folder / "d.json")) == ["one", "three", "two"]
    assert captions(open_source(folder / "d.json", split="train")) == ["three"]
    with pytest.raises(ValueError, match="expected samples, got 0 samples"):
        open_source(folder / "d.json", split="val")
    put({"t.csv": "image,caption\nval2014/0.jpg,one\n"})
    with pytest.raises(ValueError, match="expected split 'val', got None"):
        open_source(folder / "t.csv", split="val")


@pytest.mark.parametrize(
    "content", ["{", '"text"', "[1, 2]", '{"images": [1]}', '{"images": [], "annotations": []}', "[]"]
)
def test_json_that_is_no_table(put, content):
    with pytest.raises(ValueError, match=r"t\.json: expected (JSON of records|samples)"):
        open_source(put({"t.json": content}) / "t.json")


def test_long_cells_and_open_quotes(put):
    text = f'image,caption,other\n0.jpg,"a, b",{"x" * 200_000}\n1.jpg,"open,y\n2.jpg,"c, d",z\n3.jpg,"e" f,z\n'
    source = open_source(put({f"{i}.jpg": None for i in range(4)} | {"t.csv": text}) / "t.csv")
    assert pairs(source) == {"0.jpg": ("a, b",), "2.jpg": ("c, d",), "3.jpg": ('"e" f',)}
    assert [str(item) for item in source.rejected] == ["t.csv:3: its quotes do not match"]


@pytest.mark.parametrize("header", ["a,b", "0.jpg,one,two", "image,b", "caption", "x.jpg,0.jpg"])
def test_an_unclear_table_is_one_error(put, header):
    with pytest.raises(ValueError, match=r"t\.csv: expected columns for image and caption") as caught:
        open_source(put({"0.jpg": None, "t.csv": f"{header}\n"}) / "t.csv")
    assert "\n" not in str(caught.value)
