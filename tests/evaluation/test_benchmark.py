"""All figures of the benchmark, for a model whose figures are known."""

import math
from pathlib import Path

import numpy as np
import pytest

from multimodal.evaluation import BENCHMARK, ValidationSet, evaluate_model
from multimodal.generation import Beam, Greedy
from multimodal.metrics import METRICS, Metric, bleu4, cider_per_image

from .conftest import COLOURS

ZERO_SHOT = ["zero_shot_top1", "zero_shot_top5", "ECE"]
RECALLS = [f"{side}_recall@{k}" for side in ("text_to_image", "image_to_text") for k in (1, 5, 10)]
CAPTIONS = ["CIDEr", "BLEU-4", "distinct_captions"]


def names(dataset: str, measures: list[str]) -> list[str]:
    return [f"{dataset}/{measure}" for measure in measures]


def test_all_figures(model, root: Path) -> None:
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
    references = [[f"a {name} square.", f"one {name} image number 0."] for name in COLOURS]
    assert found["flickr8k/CIDEr"] == cider_per_image(captions, references).mean() > 4
    assert found["flickr8k/BLEU-4"] == bleu4(captions, references)
    assert {row.measure: row.n for row in report.rows if row.dataset == "flickr8k"} == {
        **dict.fromkeys(RECALLS[:3], 14),
        **dict.fromkeys(RECALLS[3:] + CAPTIONS, 7),
    }
    assert {row.n for row in report.rows if row.dataset == "tiny-imagenet"} == {21}
    units = {row.measure: row.unit for row in report.rows}
    assert {name for name, unit in units.items() if unit == "share"} == {*ZERO_SHOT[:2], *RECALLS}
    assert {name for name, unit in units.items() if unit == "count"} == {"distinct_captions"}


def test_a_metric_registered_outside_appears_for_every_set_with_its_task(model, root: Path) -> None:
    METRICS.register("caption_words", Metric("caption", lambda found: np.array([len(c.split()) for c in found[0]])))
    METRICS.register("mean_rank", Metric("search", lambda found: found.text_to_image.double()))
    METRICS.register("labels", Metric("classify", lambda found: len(found.labels), "count"))
    try:
        report = evaluate_model(model, root)
    finally:
        for name in ("caption_words", "mean_rank", "labels"):
            METRICS.unregister(name)
    found = {f"{row.dataset}/{row.name}": (row.shown, row.n) for row in report.rows}
    assert found["rsicd/caption_words"] == found["flickr8k/caption_words"] == ("3.000", 7)
    assert found["rsicd/mean_rank"] == found["flickr8k/mean_rank"] == ("0.000", 14)
    assert found["tiny-imagenet/labels"] == ("21", 21)
    assert found["rsicd/labels"] == ("7", 7)


def test_unsupported_tasks_are_skipped(model, root: Path) -> None:
    model.can = {"search"}
    (root / "tiny-imagenet" / "val" / "red").rename(root / "red")  # nothing of it is read
    found = evaluate_model(model, root).flat()
    assert list(found) == names("rsicd", RECALLS) + names("flickr8k", RECALLS)
    model.can = set()
    assert evaluate_model(model, root).rows == ()


def test_strategies_and_limit(model, root: Path) -> None:
    model.can = {"caption"}
    report = evaluate_model(model, root, limit=5, strategies=(Greedy(), Beam(num_beams=2)))
    found = report.flat()
    both = CAPTIONS + [f"{measure} (beam,num_beams=2)" for measure in CAPTIONS]
    assert list(found) == names("rsicd", both) + names("flickr8k", both)
    assert found["rsicd/CIDEr (beam,num_beams=2)"] < found["rsicd/CIDEr"]  # "with a border" is in no reference
    assert {row.n for row in report.rows} == {5}
    assert {(row.measure, row.strategy) for row in report.rows} == {
        (measure, strategy) for measure in CAPTIONS for strategy in (None, "beam,num_beams=2")
    }


def test_all_classes_take_part_despite_the_limit(model, root: Path) -> None:
    model.can = {"classify"}
    model.logit_scale = math.log(1e-6)  # all classes are equally likely to six digits
    found = evaluate_model(model, root, limit=1).flat()
    assert found["tiny-imagenet/ECE"] == pytest.approx(1 - 1 / 7, abs=1e-5)


def test_each_set_has_its_own_templates(model, root: Path) -> None:
    model.can = {"classify"}
    evaluate_model(model, root)
    templates = {config.name: len(config.templates) for config in BENCHMARK if config.templates}
    assert model.texts == 7 * (templates["tiny-imagenet"] + templates["rsicd"])


def test_no_set_raises(model, tmp_path: Path) -> None:
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
