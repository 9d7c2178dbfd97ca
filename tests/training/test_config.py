import pytest

from multimodal.models import CaptionerConfig, DualEncoderConfig
from multimodal.training import read_run, run_config
from tests.training.conftest import table


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
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"precision": "fp8"}, "precision: expected .* got 'fp8'"),
        ({"data": []}, r"data: expected at least one \[\[data\]\]"),
        ({"data": [{"path": "a", "wait": 1}]}, r"run.data\[0\]: expected keys among .*, got \['wait'\]"),
        ({"tokenizer": {"kind": "words"}}, "tokenizer.kind: expected 'bpe' or 'clip', got 'words'"),
        ({"model": {}}, r"model: expected \['image', 'text'\]"),
        ({"model": 3}, r"expected a \[model\] table"),
        ({"sizes": [{"until": 0.6, "side": 16}, {"until": 0.6, "side": 24}]}, "grow, .* got .0.6, 0.6"),
        ({"sizes": [{"until": 1.0, "side": 16}]}, "sizes: expected `until` to grow, between 0 and 1"),
        ({"sizes": [{"until": 0.5, "side": 0}]}, "sizes.side: expected at least 1, got 0"),
        ({"optimizer": {"beta3": 0.1}}, r"run.optimizer: expected keys .*\['beta3'\]"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        run_config(table(**changes))


def test_low_resolution_comes_first():
    config = run_config(table(steps=10, sizes=[{"until": 0.25, "side": 16}, {"until": 0.5, "side": 24}]))
    whole = config.model.image.image_size
    assert [config.size_at(step) for step in range(10)] == [16] * 3 + [24] * 2 + [whole] * 5
    assert run_config(table(steps=2)).size_at(0) == whole


def test_files_that_are_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a TOML file"):
        read_run(tmp_path / "none.toml")
    for text in (b"steps = \n", b"\xff\xfe\x00"):
        (tmp_path / "bad.toml").write_bytes(text)
        with pytest.raises(ValueError, match=r"bad\.toml: expected TOML"):
            read_run(tmp_path / "bad.toml")
