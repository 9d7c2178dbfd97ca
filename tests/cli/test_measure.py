"""evaluate: the table as people, programs and the card get it."""

import json
import shutil
from pathlib import Path

import pytest

import multimodal
from multimodal.cli.demo import LABELS, PHOTOS
from multimodal.evaluation import evaluate_model
from tests.evaluation.conftest import make_class_folders, make_table


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    make_class_folders(folder / "tiny-imagenet" / "val", 2)
    make_table(folder / "flickr8k" / "val", labels=False)
    with (folder / "flickr8k" / "val" / "data.jsonl").open("a") as file:
        file.write('\n{"captions": ["a line without a picture"]}\n')
    return folder


def test_the_table(run, folder, root):
    done = run("evaluate", folder, "--data", root)
    report = evaluate_model(multimodal.load(folder), root, beams=(1, 3))
    assert done.code == 0
    assert done.out.splitlines() == [line for line in str(report).splitlines() if "rejected" not in line]
    assert "left out flickr8k/data.jsonl" in done.line
    asked = run("evaluate", folder, "--data", root, "--beams", "2", "--limit", 3, "--json").json
    assert asked["model"] == "tiny"
    assert {"CIDEr_beam2", "zero_shot_top1"} <= {row["measure"] for row in asked["measures"]}
    assert "CIDEr" not in {row["measure"] for row in asked["measures"]}
    assert len(asked["rejected"]) == 1
    assert len(asked["per_class_accuracy"]["tiny-imagenet"]) == 7
    assert sum(asked["reliability"]["tiny-imagenet"]["images"]) == 3


def test_the_card(run, folder, root, tmp_path):
    mine = shutil.copytree(folder, tmp_path / "mine")
    before = json.loads((mine / "config.json").read_text())
    assert run("evaluate", mine, "--data", root, "--beams", "1", "--card").code == 0
    after = json.loads((mine / "config.json").read_text())
    card = after["card"]
    assert card["about"] == before["card"]["about"]
    assert card["golden"] == before["card"]["golden"]
    found = evaluate_model(multimodal.load(mine), root).flat()
    assert card["figures"] == {name: round(value, 4) for name, value in found.items()}
    assert {"images embedded per second", "captions per second", "device"} <= set(card["speed"])
    text = (mine / "README.md").read_text()
    for title, name in card["pictures"].items():
        kind = b"\xff\xd8\xff" if name.endswith(".jpg") else b"\x89PNG"
        assert (mine / name).read_bytes().startswith(kind)
        assert f"![{title}]({name})" in text
    multimodal.load(mine)


def test_a_model_of_embeddings_has_no_captions_in_its_table(run, other_folder, root):
    measures = run("evaluate", other_folder, "--data", root, "--json").json["measures"]
    assert {row["measure"].split("@")[0] for row in measures} >= {"zero_shot_top1", "text_to_image_recall"}
    assert not any("CIDEr" in row["measure"] for row in measures)


def test_every_photograph_has_a_right_answer_among_the_labels():
    assert set(PHOTOS.values()) <= set(LABELS)


@pytest.mark.parametrize("beams", ["0", "1,", "three", "-1", "1.5"])
def test_beams_are_numbers(run, folder, root, beams):
    done = run("evaluate", folder, "--data", root, f"--beams={beams}")
    assert done.code == 2
    assert "beams: expected whole numbers from 1" in done.line


def test_mistakes(run, folder, root, tmp_path):
    assert "--data" in run("evaluate", folder).line
    done = run("evaluate", folder, "--data", tmp_path)
    assert done.code == 2
    assert "expected one of tiny-imagenet/val" in done.line
    done = run("evaluate", "small", "--data", root, "--card")
    assert done.code == 2
    assert "card: expected MODEL to be a model folder, got 'small'" in done.line
