"""evaluate: its table, its JSON and the model card."""

import json
import shutil
from pathlib import Path

import pytest

import multimodal
from multimodal.evaluation import LABELS, PHOTOS, evaluate_model
from multimodal.generation import Beam, Greedy
from tests.evaluation.conftest import make_class_folders, make_table


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    make_class_folders(folder / "tiny-imagenet" / "val", 2)
    make_table(folder / "flickr8k" / "val", labels=False)
    with (folder / "flickr8k" / "val" / "data.jsonl").open("a") as file:
        file.write('\n{"captions": ["a line without an image"]}\n')
    return folder


def test_the_table(run, folder, root):
    done = run("evaluate", folder, "--data", root)
    report = evaluate_model(multimodal.load(folder), root, strategies=(Greedy(), Beam(num_beams=3)))
    assert done.code == 0
    assert done.out.splitlines() == [line for line in str(report).splitlines() if "rejected" not in line]
    assert "left out flickr8k/data.jsonl" in done.line
    asked = run("evaluate", folder, "--data", root, "--strategy", "beam,num_beams=2", "--limit", 3, "--json").json
    assert asked["model"] == "tiny"
    assert {"CIDEr", "zero_shot_top1"} <= {row["measure"] for row in asked["measures"]}
    assert {row["strategy"] for row in asked["measures"] if row["measure"] == "CIDEr"} == {"beam,num_beams=2"}
    assert len(asked["rejected"]) == 1
    assert len(asked["per_class_accuracy"]["tiny-imagenet"]) == 7
    assert sum(asked["reliability"]["tiny-imagenet"]["images"]) == 3


def test_the_card(run, folder, root, tmp_path):
    mine = shutil.copytree(folder, tmp_path / "mine")
    before = json.loads((mine / "config.json").read_text())
    assert run("evaluate", mine, "--data", root, "--strategy", "greedy", "--card").code == 0
    after = json.loads((mine / "config.json").read_text())
    card = after["card"]
    assert card["about"] == before["card"]["about"]
    assert card["golden"] == before["card"]["golden"]
    assert card["figures"] == evaluate_model(multimodal.load(mine), root).figures()
    assert {"images embedded per second", "captions per second", "device"} <= set(card["speed"])
    text = (mine / "README.md").read_text()
    assert "| flickr8k | CIDEr | " in text
    for title, name in card["charts"].items():
        kind = b"\xff\xd8\xff" if name.endswith(".jpg") else b"\x89PNG"
        assert (mine / name).read_bytes().startswith(kind)
        assert f"![{title}]({name})" in text
    multimodal.load(mine)


def test_a_model_without_a_decoder_has_no_caption_figures(run, other_folder, root):
    measures = run("evaluate", other_folder, "--data", root, "--json").json["measures"]
    assert {row["measure"].split("@")[0] for row in measures} >= {"zero_shot_top1", "text_to_image_recall"}
    assert not any("CIDEr" in row["measure"] for row in measures)


def test_the_true_label_of_every_photograph_is_among_the_labels():
    assert set(PHOTOS.values()) <= set(LABELS)


@pytest.mark.parametrize("strategy", ["swim", "beam,num_beams=three", "beam,num_beams=1.5", "beam,fins=2"])
def test_wrong_strategies(run, folder, root, strategy):
    done = run("evaluate", folder, "--data", root, "--strategy", strategy)
    assert (done.code, done.out) == (2, "")
    assert "expected" in done.line


def test_mistakes(run, folder, root, tmp_path):
    assert "--data" in run("evaluate", folder).line
    done = run("evaluate", folder, "--data", tmp_path)
    assert done.code == 2
    assert "expected one of tiny-imagenet/val" in done.line
    done = run("evaluate", "small", "--data", root, "--card")
    assert done.code == 2
    assert "card: expected MODEL to be a model folder, got 'small'" in done.line
