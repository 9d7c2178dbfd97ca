"""The example in CONTRIBUTING.md works as printed: its code, its table and the loss that it computes."""

import json
import math
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from multimodal.datasets import draw_shapes
from multimodal.training import OBJECTIVES, TermData, run_config, train
from tests.training.conftest import table

GUIDE = Path(__file__).parents[1] / ".github" / "CONTRIBUTING.md"


def block(language: str) -> str:
    """The only code block of the guide in this language."""
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return code


@pytest.fixture
def example():
    """The names that the Python block defines, while its loss is registered."""
    names = {"__name__": "uniformity"}
    exec(compile(block("python"), str(GUIDE), "exec"), names)
    yield SimpleNamespace(**names)
    OBJECTIVES.unregister("uniformity")


@pytest.mark.parametrize("t", [2.0, 0.5])
def test_the_loss_equals_a_loop_over_all_pairs(example, t):
    vectors = F.normalize(torch.randn(7, 5, generator=torch.manual_seed(0)), dim=-1)
    network = SimpleNamespace(modalities=("image", "text"))
    shared = SimpleNamespace(network=network, embedding={"image": vectors}.__getitem__)
    term = OBJECTIVES.build(example.UniformityConfig(t=t), network, TermData(eos_id=2, label_names=[]))
    potentials = [
        math.exp(-t * sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))
        for place, one in enumerate(vectors.tolist())
        for other in vectors.tolist()[:place]
    ]
    assert len(potentials) == 7 * 6 / 2
    expected = math.log(sum(potentials) / len(potentials))
    assert term(shared, None).item() == pytest.approx(expected, abs=1e-5)


def test_a_run_with_the_table_trains_with_the_loss(example, tmp_path):
    draw_shapes(tmp_path, train=24, val=1, seed=0, progress=False)
    objective = [*table()["objective"], *tomllib.loads(block("toml"))["objective"]]
    config = run_config(table(steps=2, objective=objective))
    assert config.objective[-1] == example.UniformityConfig(weight=0.1)
    out = train(config, tmp_path / "out", tmp_path, device="cpu")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        total = row["contrastive"] + row["captioning"] + 0.1 * row["uniformity"]
        assert row["loss"] == pytest.approx(total, abs=1e-5)
        assert row["uniformity"] < 0
