"""Which modalities the readers look for is data: file suffixes and column names."""

import json

import pytest

from multimodal.datasets import SOURCES, SourceOptions, open_source
from multimodal.datasets.sources.record import IMAGE_SUFFIXES

SIGNAL = {"signal": (".npy",)}
BOTH = {"image": IMAGE_SUFFIXES, "signal": (".npy", ".wav")}


def inputs(source):
    return {sample.name: sample.inputs for sample in source}


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_image_suffix_is_read_by_every_format(tmp_path, shard, suffix):
    name = f"0{suffix.upper()}"
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / name).write_bytes(b"data")
    folder = open_source(tmp_path, kind="folder")
    assert inputs(folder) == {f"cat/{name}": {"image": tmp_path / "cat" / name}}
    (tmp_path / "t.csv").write_text(f"image,caption\ncat/{name},a cat\n")
    assert inputs(open_source(tmp_path / "t.csv")) == inputs(folder)
    source = open_source(shard([(name, b"data"), ("0.txt", b"a cat")]))
    assert inputs(source) == {"a.tar/0": {"image": b"data"}}


def test_a_tar_of_signals_and_images(shard):
    members = [("0.npy", b"zero"), ("0.jpg", b"pixels"), ("0.txt", b"a"), ("1.wav", b"one"), ("1.txt", b"b")]
    path = shard(members)
    assert inputs(open_source(path, suffixes=SIGNAL)) == {"a.tar/0": {"signal": b"zero"}}
    both = open_source(path, suffixes=BOTH)
    assert inputs(both) == {"a.tar/0": {"image": b"pixels", "signal": b"zero"}}
    assert [str(item) for item in both.rejected] == ["a.tar/1: it has no image (found: .txt, signal)"]


def test_a_folder_of_signals_and_images(tmp_path):
    names = ("cat/0.npy", "cat/0.jpg", "cat/0.wav", "cat/1.npy", "dog/x/2.wav", "dog/x/2.png", "dog/3.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"data")
    signals = open_source(tmp_path, suffixes=SIGNAL)
    assert inputs(signals) == {name: {"signal": tmp_path / name} for name in ("cat/0.npy", "cat/1.npy")}
    both = open_source(tmp_path, suffixes=BOTH)
    assert inputs(both) == {
        "cat/0": {"image": tmp_path / "cat/0.jpg", "signal": tmp_path / "cat/0.npy"},
        "dog/x/2": {"image": tmp_path / "dog/x/2.png", "signal": tmp_path / "dog/x/2.wav"},
    }
    assert [sample.label for sample in both] == ["cat", "dog"]
    assert {item.name: item.reason for item in both.rejected} == {
        "cat/0.wav": "a second signal",
        "cat/1": "it has no image",
        "dog/3.txt": "expected a suffix of image or signal, got '.txt'",
    }


def test_a_table_of_signals_and_images(tmp_path):
    for name in ("0.npy", "0.jpg", "1.npy"):
        (tmp_path / name).write_bytes(b"data")
    text = "path,signal,caption\n0.jpg,0.npy,a\n0.jpg,1.npy,b\n0.jpg,0.npy,c\n0.jpg,,d\n"
    (tmp_path / "t.csv").write_text(text)
    source = open_source(tmp_path, suffixes=BOTH)
    assert [(sample.captions, sample.inputs["signal"].name) for sample in source] == [
        (("a", "c"), "0.npy"),
        (("b",), "1.npy"),
    ]
    assert [str(item) for item in source.rejected] == ["t.csv:5: it names no signal (expected a path in signal)"]
    with pytest.raises(ValueError, match="expected columns for sound and caption"):
        open_source(tmp_path, suffixes={"sound": (".wav",)})


def test_texts_alone(tmp_path, shard):
    (tmp_path / "t.csv").write_text("text,label\none,\ntwo,\none,\n,cat\n")
    lines = [{"text": "one"}, {"captions": ["two", "three"]}, {"label": "cat"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "t.txt").write_bytes("\ufeffone \n\n  two\r\nstill two\n".encode() + b"caf\xe9\n" + b"x" * 2**20)
    tar = shard([("0.txt", b"one"), ("1.json", b'{"text": "two"}'), ("2.jpg", b"pixels")])

    def texts(name, templates=None):
        source = open_source(tmp_path / name, templates, suffixes={})
        return {sample.name: (sample.inputs, sample.captions) for sample in source}

    assert texts("t.csv") == {f"t.csv:{i}": ({}, (text,)) for i, text in ((2, "one"), (3, "two"), (4, "one"))}
    assert texts("t.csv", ["a {}"])["t.csv:5"] == ({}, ("a cat",))
    assert texts("t.jsonl") == {"t.jsonl:1": ({}, ("one",)), "t.jsonl:2": ({}, ("two", "three"))}
    assert texts(tar.name) == {"a.tar/0": ({}, ("one",)), "a.tar/1": ({}, ("two",))}
    assert texts("t.txt") == {"t.txt:1": ({}, ("one",)), "t.txt:3": ({}, ("two",)), "t.txt:4": ({}, ("still two",))}
    source = SOURCES["lines"].read(tmp_path / "t.txt", SourceOptions(suffixes={}))
    assert [str(item) for item in source.rejected] == [
        "t.txt:5: its text is not valid Unicode",
        "t.txt:6: the line is longer than 1000000 characters",
    ]
