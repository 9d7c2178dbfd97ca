"""The whole table, for a model whose figures are known."""

import math
from pathlib import Path

import pytest

from multimodal.evaluation import BENCHMARK, ValidationSet, bleu4, cider, evaluate_model

from .conftest import COLOURS

ZERO_SHOT = ["zero_shot_top1", "zero_shot_top5", "ECE"]
RECALLS = [f"{side}_recall@{k}" for side in ("text_to_image", "image_to_text") for k in (1, 5, 10)]
CAPTIONS = ["CIDEr", "BLEU-4", "distinct_captions"]


def names(dataset: str, measures: list[str]) -> list[str]:
    return [f"{dataset}/{measure}" for measure in measures]


def test_the_whole_table(model, root: Path) -> None:
    report = evaluate_model(model, root)
    found = report.flat()
    assert list(found) == (
        names("tiny-imagenet", ZERO_SHOT)
        + names("rsicd", ZERO_SHOT + RECALLS + CAPTIONS)
        + names("flickr8k", RECALLS + CAPTIONS)
    )
    for name, value in found.items():
        if "recall" in name or "zero_shot" in name:
            assert value == 1, name
    assert found["flickr8k/distinct_captions"] == 7
    captions = [f"a {name} square." for name in COLOURS]
    references = [[f"a {name} square.", f"one {name} picture number 0."] for name in COLOURS]
    assert found["flickr8k/CIDEr"] == cider(captions, references) > 4
    assert found["flickr8k/BLEU-4"] == bleu4(captions, references)
    assert {row.measure: row.n for row in report.rows if row.dataset == "flickr8k"} == {
        **dict.fromkeys(RECALLS[:3], 14),
        **dict.fromkeys(RECALLS[3:] + CAPTIONS, 7),
    }
    assert {row.n for row in report.rows if row.dataset == "tiny-imagenet"} == {21}


def test_what_the_model_cannot_do_is_left_out(model, root: Path) -> None:
    model.can = {"search"}
    (root / "tiny-imagenet" / "val" / "red").rename(root / "red")  # nothing of it is read
    found = evaluate_model(model, root).flat()
    assert list(found) == names("rsicd", RECALLS) + names("flickr8k", RECALLS)
    model.can = set()
    assert evaluate_model(model, root).rows == ()


def test_beams_and_limit(model, root: Path) -> None:
    model.can = {"caption"}
    report = evaluate_model(model, root, limit=5, beams=(1, 3))
    found = report.flat()
    both = CAPTIONS + [f"{measure}_beam3" for measure in CAPTIONS]
    assert list(found) == names("rsicd", both) + names("flickr8k", both)
    assert found["rsicd/CIDEr_beam3"] < found["rsicd/CIDEr"]  # "with a border" is in no reference
    assert {row.n for row in report.rows} == {5}
    with pytest.raises(ValueError, match="num_beams: expected at least 1, got 0"):
        evaluate_model(model, root, beams=(0,))


def test_all_classes_take_part_whatever_the_limit(model, root: Path) -> None:
    model.can = {"classify"}
    model.logit_scale = math.log(1e-6)  # all classes are equally likely to six digits
    found = evaluate_model(model, root, limit=1).flat()
    assert found["tiny-imagenet/ECE"] == pytest.approx(1 - 1 / 7, abs=1e-5)


def test_templates_are_the_sets_own(model, root: Path) -> None:
    model.can = {"classify"}
    evaluate_model(model, root)
    templates = {config.name: len(config.templates) for config in BENCHMARK if config.templates}
    assert model.texts == 7 * (templates["tiny-imagenet"] + templates["rsicd"])


def test_nothing_there(model, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tiny-imagenet/val, rsicd/val, cifar10/test, flickr8k/val"):
        evaluate_model(model, tmp_path)


def test_quiet_without_a_terminal(model, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_model(model, root)
    assert capfd.readouterr() == ("", "")


@pytest.mark.shared
def test_the_real_sets_are_read() -> None:
    root = Path(__file__).parents[3] / "shared" / "data"
    if not root.is_dir():
        pytest.skip("needs ../shared/data")
    sets = {config.name: ValidationSet(config, root) for config in BENCHMARK}
    assert {name: (len(each.source), len(each.class_names)) for name, each in sets.items()} == {
        "tiny-imagenet": (2000, 200),
        "rsicd": (1094, 30),
        "cifar10": (4000, 10),
        "flickr8k": (1000, 0),
    }
    assert not any(each.rejected for each in sets.values())
