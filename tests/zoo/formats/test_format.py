"""A format registered from outside is opened by `load` like the formats of the package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import multimodal
from multimodal.models import MODELS
from multimodal.preprocess.preprocessor import load_preprocessor, save_preprocessor
from multimodal.zoo import FORMATS, Checkpoint


class MineFormat:
    """A file with the weights as arrays and a table as JSON; the tokenizer is beside it."""

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".mine"

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        arrays = dict(np.load(path))
        table = json.loads(str(arrays.pop("table")))
        inputs = {modality: load_preprocessor(values, path.parent) for modality, values in table["inputs"].items()}
        weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Checkpoint(path.stem, MODELS.from_dict(table["model"]), weights, inputs, {}, "0" * 64)


@pytest.fixture
def mine():
    FORMATS.register("mine", MineFormat())
    yield
    FORMATS.unregister("mine")


def test_a_format_from_outside(mine, make_model, tmp_path):
    model = make_model(seed=1)
    inputs = {modality: preprocessor.to_dict() for modality, preprocessor in model.inputs.items()}
    table = json.dumps({"model": MODELS.to_dict(model.network.config), "inputs": inputs})
    weights = {name: parameter.detach().numpy() for name, parameter in model.network.named_parameters()}
    with (tmp_path / "x.mine").open("wb") as file:
        np.savez(file, table=table, **weights)
    for preprocessor in model.inputs.values():
        save_preprocessor(preprocessor, tmp_path)
    loaded = multimodal.load(tmp_path / "x.mine", dtype=torch.float32, device="cpu")
    assert (loaded.name, loaded.can) == ("x", model.can)
    assert torch.equal(loaded.embed_texts(["a cat"]), model.embed_texts(["a cat"]))


def test_an_unknown_format_is_refused_by_the_names_of_the_known_ones(tmp_path):
    (tmp_path / "x.mine").write_bytes(b"PK")
    message = r"expected a checkpoint in one of the formats \['open_clip', 'own', .*\]"
    with pytest.raises(ValueError, match=message):
        multimodal.load(tmp_path / "x.mine")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=rf"{message}, got a config\.json with \{{'model_type': 'bert'\}}"):
        multimodal.load(tmp_path)


class Broken:
    """Raises what a library might, over the contents of a checkpoint."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".broken"

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (KeyError("width"), ValueError, r"x\.broken: could not open the checkpoint: .*KeyError: 'width'"),
        (ValueError("width: expected 4, got 5"), ValueError, "^width: expected 4, got 5$"),
        (PermissionError("not yours"), PermissionError, "^not yours$"),
        (ImportError("no such package"), ImportError, "^no such package$"),
    ],
)
def test_errors_are_told_apart_by_their_type(error, kind, message, tmp_path):
    FORMATS.register("broken", Broken(error))
    (tmp_path / "x.broken").touch()
    try:
        with pytest.raises(kind, match=message):
            multimodal.load(tmp_path / "x.broken")
    finally:
        FORMATS.unregister("broken")
