"""Figures during training match the benchmark."""

import io
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

import multimodal
from multimodal.config import from_dict
from multimodal.evaluation import Validation, ValidationConfig, ValidationSet, evaluate_model
from multimodal.evaluation.validation import CHUNK

from .conftest import COLOURS, make_table


def test_agrees_with_the_benchmark(model, root: Path) -> None:
    validation = Validation(
        [
            ValidationConfig("rsicd", "rsicd/val", ("classify", "search", "caption")),
            ValidationConfig("flickr8k", "flickr8k/val"),
        ],
        root,
    )
    whole = evaluate_model(model, root).flat()
    found = validation(model).flat()
    assert found == {name: value for name, value in whole.items() if not name.startswith("tiny")}
    assert found == validation(model).flat()  # again, on the same open sets


def test_the_table_of_a_run_file() -> None:
    table = {"name": "a", "path": "b", "tasks": ["classify"], "templates": ["a {}"], "limit": 10}
    assert from_dict(ValidationConfig, table) == ValidationConfig("a", "b", ("classify",), ("a {}",), 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ("swim",)}, "expected some of classify, search, caption, got \\['swim'\\]"),
        ({"tasks": ()}, "expected some of"),
        ({"templates": ("a photo",)}, "one {} for the label"),
        ({"limit": 0}, "limit of a: expected at least 1, got 0"),
    ],
)
def test_wrong_configs_raise(wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ValidationConfig("a", "b", **wrong)


def test_errors_come_before_training(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        Validation([ValidationConfig("a", "elsewhere")], root)
    with pytest.raises(ValueError, match="unique name"):
        Validation([ValidationConfig("a", "rsicd/val"), ValidationConfig("a", "flickr8k/val")], root)
    with pytest.raises(ValueError, match=r"flickr: expected at least 2 classes, got \[\]"):
        Validation([ValidationConfig("flickr", "flickr8k/val", ("classify", "search"))], root)


def test_the_limit_is_spread_over_the_set(model, root: Path) -> None:
    config = ValidationConfig("tiny", "tiny-imagenet/val", ("classify",), limit=7)
    each = ValidationSet(config, root)  # sorted by class, three of each
    assert sorted(str(entry.label) for entry in each.source.entries) == sorted(COLOURS)
    assert each.class_names == sorted(COLOURS)
    probabilities, labels, class_names = each.zero_shot(model, each.embed_inputs(model))
    assert probabilities.sum(1) == pytest.approx(1)
    expected = torch.tensor([class_names.index(str(entry.label)) for entry in each.source.entries])
    assert labels.equal(expected)
    assert probabilities.argmax(1).equal(expected)


def test_images_without_a_label_are_not_classified(model, tmp_path: Path) -> None:
    make_table(tmp_path / "set", labels=True)
    file = tmp_path / "set" / "data.jsonl"
    file.write_text(file.read_text().replace(', "label": "red"', "").replace(', "label": "cyan"', ""))
    report = ValidationSet(ValidationConfig("a", "set", ("classify", "search")), tmp_path).measure(model)
    assert {row.measure: row.n for row in report.rows}["zero_shot_top1"] == 5
    assert {row.measure: row.n for row in report.rows}["image_to_text_recall@1"] == 7


def test_more_images_than_one_chunk(model, tmp_path: Path) -> None:
    copies = CHUNK // len(COLOURS) + 2
    make_table(tmp_path / "set", labels=False, copies=copies)
    validation = Validation([ValidationConfig("a", "set")], tmp_path)
    found = validation(model).flat()
    n = copies * len(COLOURS)
    assert n > CHUNK
    assert model.texts == n + len(COLOURS)  # each distinct sentence once
    # All images of a colour are equal, and ties count against the query in both directions.
    assert found["a/text_to_image_recall@10"] == 0
    assert found["a/image_to_text_recall@10"] == 0
    assert found["a/distinct_captions"] == len(COLOURS)


def test_rejected_samples_are_in_the_report(model, tmp_path: Path) -> None:
    make_table(tmp_path / "set", labels=False)
    with open(tmp_path / "set" / "data.jsonl", "a") as file:
        file.write('\n{"image": "lost.png", "captions": ["a lost image"]}')
    report = Validation([ValidationConfig("a", "set")], tmp_path)(model)
    [lost] = report.rejected
    assert lost.name.startswith("a/")
    assert "lost.png" in lost.reason
    assert "lost.png" in str(report)


def test_a_refused_image_is_named_with_its_set(model, tmp_path: Path) -> None:
    make_table(tmp_path / "set", labels=False)
    validation = Validation([ValidationConfig("a", "set")], tmp_path)
    model.embed = Refusing()
    with pytest.raises(ValueError, match=r"a, samples red0\.png to white0\.png: image 3: no image"):
        validation(model)


class Refusing:
    def __call__(self, images: list[object]) -> torch.Tensor:
        raise ValueError("image 3: no image")


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(buffer, kind, **options)
    return buffer.getvalue()


UNREADABLE = {
    "truncated.jpg": encoded("JPEG")[:400],
    "truncated.png": encoded("PNG")[:400],
    "empty.jpg": b"",
    "text.jpg": b"this is no image",
    "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "header.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "page.png": b"<!doctype html><title>404</title>",
}


def add_unreadable(folder: Path, names: list[str], missing: bool = False) -> None:
    """Two rows for each unreadable file, spread over the table of `folder`."""
    table = folder / "data.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for place, name in enumerate(names):
        (folder / name).write_bytes(UNREADABLE[name])
        row = {"image": name, "captions": [f"a red {name}"], "label": "red"}
        rows[2 * place : 2 * place] = [row]
        rows.append(row | {"captions": ["a second sentence"]})
    if missing:
        rows.insert(3, {"image": "missing.png", "captions": ["a lost image"], "label": "red"})
    table.write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("task", ["classify", "search", "caption"])
@pytest.mark.parametrize(
    "names", [[name] for name in UNREADABLE] + [list(UNREADABLE)], ids=lambda n: n[0] + str(len(n))
)
def test_unreadable_samples_are_listed_and_do_not_count(model, tmp_path: Path, names, task) -> None:
    for folder in ("clean", "mixed"):
        make_table(tmp_path / folder, labels=True, copies=2)
    add_unreadable(tmp_path / "mixed", names, missing=len(names) > 1)
    configs = {folder: ValidationConfig("a", folder, (task,)) for folder in ("clean", "mixed")}
    expected = Validation([configs["clean"]], tmp_path)(model)
    validation = Validation([configs["mixed"]], tmp_path)
    for _ in range(2):  # the second time as the first
        report = validation(model)
        assert report.rows == expected.rows
        listed = Counter(map(str, report.rejected))
        expected_names = names + (["missing.png"] if len(names) > 1 else [])
        assert len(listed) == len(report.rejected) == len(expected_names)
        assert all(any(name in item for item in listed) for name in expected_names)
        assert all(item.reason for item in report.rejected)
    assert report.zero_shot.keys() == expected.zero_shot.keys()


def test_a_set_without_a_readable_sample_has_no_figures(model, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.jsonl").write_text("")
    add_unreadable(tmp_path / "set", list(UNREADABLE))
    (tmp_path / "set" / "text.jpg").write_text("blue")
    tasks = ("search", "caption")
    report = Validation([ValidationConfig("a", "set", tasks)], tmp_path)(model)
    assert report.rows == ()
    assert len(report.rejected) == len(UNREADABLE)


def test_files_that_vanish_or_break_after_opening(model, tmp_path: Path) -> None:
    make_table(tmp_path / "set", labels=True)
    validation = Validation([ValidationConfig("a", "set", ("classify", "search", "caption"))], tmp_path)
    assert {row.n for row in validation(model).rows} == {7, 14}
    (tmp_path / "set" / "red0.png").unlink()
    (tmp_path / "set" / "blue0.png").write_bytes(b"")
    report = validation(model)
    assert [item.name for item in report.rejected] == ["a/red0.png", "a/blue0.png"]
    assert {row.n for row in report.rows} == {5, 10}


def test_a_real_model_skips_what_it_cannot_read(root: Path) -> None:
    model = multimodal.load("small")
    expected = evaluate_model(model, root)
    add_unreadable(root / "flickr8k" / "val", list(UNREADABLE))
    (root / "tiny-imagenet" / "val" / "red" / "bad.jpg").write_bytes(UNREADABLE["truncated.jpg"])
    report = evaluate_model(model, root)
    assert report.rows == expected.rows
    assert len(report.rejected) == len(UNREADABLE) + 1
    assert any("bad.jpg" in item.name for item in report.rejected)
