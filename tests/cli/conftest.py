"""A model folder, and a fixture that runs commands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from multimodal.cli import main
from multimodal.evaluation import Report
from multimodal.metrics import Measure
from multimodal.zoo import save_folder

# Two steps on drawn shapes.
RUN = """
name = "tiny"
steps = 2
batch_size = 8
log_every = 1
workers = 0
inputs.text = { kind = "bpe", vocab_size = 300, context_length = 32 }
objective = [{ kind = "contrastive" }]
[model]
kind = "dual_encoder"
embed_dim = 16
encoders.image = { kind = "vit", image_size = 32, patch_size = 16, width = 32, layers = 1, heads = 2 }
encoders.text = { kind = "text", width = 32, layers = 1, heads = 2 }
[[data]]
path = "train"
flip = false
[[validation]]
name = "shapes"
path = "val"
tasks = ["classify", "search"]
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def run(capsys) -> Callable[..., Done]:
    """run("classify", path, ...): run a command in this process."""

    def run(*arguments: Any) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run


def write_model(model, folder: Path, card: dict[str, Any]) -> Path:
    save_folder(folder, model.name, model.network, model.inputs, card)
    return folder


@pytest.fixture(scope="session")
def folder(make_model, tmp_path_factory) -> Path:
    """A model that captions."""
    figures = (Measure("shapes", "zero_shot_top1", 0.125, 8, "share"), Measure("shapes", "ECE", 0.3, 8))
    card = {"about": "Random & tiny.", "figures": Report(figures).figures()}
    return write_model(make_model(), tmp_path_factory.mktemp("model") / "tiny", card)


@pytest.fixture(scope="session")
def other_folder(make_model, tmp_path_factory) -> Path:
    """Another model, without a decoder."""
    model = make_model(seed=7, decoder=False, name="other")
    return write_model(model, tmp_path_factory.mktemp("model") / "other", {"about": "x"})


@pytest.fixture
def spoiled(folder, tmp_path) -> Path:
    """A copy of the model folder, for tests that damage it."""
    return shutil.copytree(folder, tmp_path / "spoiled")


@pytest.fixture
def bad(photos) -> Path:
    """A broken image among the others."""
    path = photos / "bad.jpg"
    path.write_bytes(b"\xff\xd8 not an image")
    return path
