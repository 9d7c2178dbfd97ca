from pathlib import Path

import pytest

from multimodal.models import CoCaConfig, DualEncoderConfig
from multimodal.training import read_run, run_config
from tests.training.conftest import table

RECIPES = Path(__file__).parents[2] / "data" / "recipes"


def test_the_model_table_decides_what_is_built():
    run = run_config(table())
    assert isinstance(run.model, CoCaConfig)
    assert run.model.decoder.width == 32
    without = table()
    del without["model"]["decoder"]
    without["model"]["kind"] = "dual_encoder"
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
        ({"inputs": {"text": {"kind": "words"}}}, r"run.inputs.text.kind: expected one of \[.*'bpe'.*\], got 'words'"),
        ({"objective": []}, r"objective: expected at least one \[\[objective\]\]"),
        (
            {"objective": [{"kind": "magic"}]},
            r"run.objective\[0\].kind: expected one of \[.*'captioning'.*, got 'magic'",
        ),
        ({"objective": [{"kind": "captioning", "wait": 1}]}, r"run.objective\[0\]: expected keys .*, got \['wait'\]"),
        ({"model": {}}, r"run.model.kind: expected one of \[.*'coca'.*\], got None"),
        ({"model": {"kind": "dual_encoder"}}, r"run.model: expected \['encoders'\]"),
        (
            {"inputs": {"image": {"kind": "image", "image_size": 32, "resize": "bend"}}},
            r"resize: expected one of \('crop', 'crop_floor', 'squash', 'pad'\), got 'bend'",
        ),
        ({"model": 3}, "run.model: expected a table with a kind, got 3"),
        ({"stages": [{"steps": 0}]}, r"stages\[0\].steps: expected at least 1, got 0"),
        (
            {"stages": [{"steps": 1}, {"steps": 2, "image_size": 0}]},
            r"stages\[1\].image_size: expected at least 1, got 0",
        ),
        ({"stages": [{"steps": 1, "weights": [1, 2]}]}, r"stages\[0\].weights: expected 1, one for each"),
        ({"stages": [{"steps": 1, "image_size": 40}]}, r"image_size: expected a multiple of patch_size 16, got 40"),
        ({"stages": [{"image_size": 32}]}, r"run.stages\[0\]: expected \['steps'\]"),
        ({"optimizer": {"beta3": 0.1}}, r"run.optimizer: expected keys .*\['beta3'\]"),
    ],
)
def test_mistakes_name_the_key(changes, message):
    with pytest.raises(ValueError, match=message):
        run_config(table(**changes))


def test_a_stage_takes_from_the_run_what_it_does_not_say():
    stages = [
        {"steps": 3, "image_size": 16, "objective": {"captioning": 0.0}, "weights": [2]},
        {"steps": 4, "batch_size": 8, "freeze": ["encoders"], "optimizer": {"lr": 0.5}},
    ]
    run = run_config(table(steps=99, batch_size=4, stages=stages))
    first, second = run.plan()
    assert (first.start, first.end, second.start, second.end) == (0, 3, 3, 7)
    assert (first.batch_size, first.image_size, first.freeze, first.weights) == (4, 16, (), (2.0,))
    assert (second.batch_size, second.image_size, second.freeze, second.weights) == (8, 32, ("encoders",), (1.0,))
    assert first.objective == {"contrastive": 1.0, "captioning": 0.0}
    assert second.objective == {"contrastive": 1.0, "captioning": 1.0}
    assert first.optimizer == run.optimizer
    assert second.optimizer.lr == 0.5


def test_without_stages_the_run_is_one():
    [stage] = run_config(table(steps=7)).plan()
    assert (stage.start, stage.end, stage.batch_size, stage.image_size, stage.weights) == (0, 7, 16, 32, (1.0,))


def test_files_that_are_not_runs(tmp_path):
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
