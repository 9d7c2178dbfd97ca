"""A run as small as possible, on drawn shapes."""

from pathlib import Path
from typing import Any

import pytest

from multimodal.datasets import draw_shapes
from multimodal.training import RunConfig, run_config


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    draw_shapes(folder, train=64, val=16, seed=0, progress=False)
    return folder


def table(**changes: Any) -> dict[str, Any]:
    """The run as parsed from a file; `changes` replace top-level keys."""
    tower = {"width": 32, "layers": 1, "heads": 2}
    run = {
        "name": "tiny",
        "steps": 6,
        "batch_size": 16,
        "log_every": 1,
        "evaluate_every": 100,
        "checkpoint_every": 3,
        "workers": 0,
        "precision": "float32",
        "inputs": {"text": {"kind": "bpe", "vocab_size": 300, "context_length": 64}},
        "objective": [{"kind": "contrastive"}, {"kind": "captioning"}],
        "model": {
            "kind": "coca",
            "embed_dim": 16,
            "encoders": {
                "image": {"kind": "vit", "image_size": 32, "patch_size": 16, **tower},
                "text": {"kind": "text", **tower},
            },
            "decoder": {"kind": "text", **tower},
        },
        "optimizer": {"lr": 1e-3, "warmup": 2},
        "data": [{"path": "train"}],
    }
    return run | changes


@pytest.fixture
def make_run():
    """make_run(**changes) -> RunConfig"""

    def make_run(**changes: Any) -> RunConfig:
        return run_config(table(**changes))

    return make_run
