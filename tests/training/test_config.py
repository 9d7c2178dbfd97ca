from pathlib import Path

import pytest

from multimodal.models import CaptionerConfig, DualEncoderConfig
from multimodal.training import read_run, run_config
from tests.training.conftest import table

RECIPES = Path(__file__).parents[2] / "data" / "recipes"


def test_the_model_table_decides_what_is_built():
    run = run_config(table())
    assert isinstance(run.model, CaptionerConfig)
    assert run.model.decoder.width == 32
    without = table()
    del without["model"]["decoder"]
    assert type(run_config(without).model) is DualEncoderConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepz": 3}, r"run: expected keys among .*, got \['stepz'\]"),
        ({"steps": "many"}, "run.steps: expected int, got 'many'"),
        ({"steps": 0}, "run.steps: expected at least 1, got 0"),
        ({"precision": "fp8"}, "precision: expected .* got 'fp8'"),
        ({"name": "../small"}, "name: expected a name for a folder"),
        ({"name": ""}, "name: expected a name for a folder"),
        ({"name": ".."}, "name: expected a name for a folder"),
        ({"data": []}, r"data: expected at least one \[\[data\]\]"),
        ({"data": [{"path": "a", "wait": 1}]}, r"run.data\[0\]: expected keys among .*, got \['wait'\]"),
        ({"tokenizer": {"kind": "words"}}, "tokenizer.kind: expected 'bpe' or 'clip', got 'words'"),
        ({"model": {}}, r"model: expected \['image', 'text'\]"),
        (
            {"resize": "bend"},
            r"resize: expected one of \('crop', 'crop_floor', 'squash', 'pad'\), got 'bend'",
        ),
        ({"model": 3}, r"expected a \[model\] table"),
        ({"stages": [{"steps": 0}]}, r"stages\[0\].steps: expected at least 1, got 0"),
        (
            {"stages": [{"steps": 1}, {"steps": 2, "side": 0}]},
            r"stages\[1\].side: expected at least 1, got 0",
        ),
        ({"stages": [{"steps": 1, "weights": [1, 2]}]}, r"stages\[0\].weights: expected 1, one for each"),
        ({"stages": [{"steps": 1, "side": 40}]}, r"side: expected a multiple of patch_size 16, got 40"),
        ({"stages": [{"side": 32}]}, r"run.stages\[0\]: expected \['steps'\]"),
        ({"optimizer": {"beta3": 0.1}}, r"run.optimizer: expected keys .*\['beta3'\]"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        run_config(table(**changes))


def test_a_stage_takes_from_the_run_what_it_does_not_say():
    stages = [
        {"steps": 3, "side": 16, "objective": {"captioning": 0.0}, "weights": [2]},
        {"steps": 4, "batch_size": 8, "freeze": ["dual"], "optimizer": {"lr": 0.5}},
    ]
    run = run_config(table(steps=99, batch_size=4, stages=stages))
    first, second = run.plan()
    assert (first.start, first.end, second.start, second.end) == (0, 3, 3, 7)
    assert (first.batch_size, first.side, first.freeze, first.weights) == (4, 16, (), (2.0,))
    assert (second.batch_size, second.side, second.freeze, second.weights) == (8, 32, ("dual",), (1.0,))
    assert first.objective.captioning == 0.0
    assert second.objective == run.objective
    assert first.optimizer == run.optimizer
    assert second.optimizer.lr == 0.5


def test_without_stages_the_run_is_one():
    [stage] = run_config(table(steps=7)).plan()
    assert (stage.start, stage.end, stage.batch_size, stage.side, stage.weights) == (0, 7, 16, 32, (1.0,))


def test_files_that_are_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a TOML file"):
        read_run(tmp_path / "none.toml")
    for text in (b"steps = \n", b"\xff\xfe\x00"):
        (tmp_path / "bad.toml").write_bytes(text)
        with pytest.raises(ValueError, match=r"bad\.toml: expected TOML"):
            read_run(tmp_path / "bad.toml")


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_recipes_are_runs_of_their_name(path):
    run = read_run(path)
    assert run.name == {"shipped": "small"}.get(path.stem, path.stem)  # the model has a name of its own
    assert run.validation
