"""Model folders: model.safetensors, config.json, the files of the preprocessors and a model card (README.md)."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.files import atomic_write, local_path, write_text
from multimodal.metrics import read_measures
from multimodal.model import Model
from multimodal.models import MODELS, compute_dtype
from multimodal.preprocess.preprocessor import Preprocessor, save_preprocessor
from multimodal.zoo.build import build, stored
from multimodal.zoo.contract import contract
from multimodal.zoo.formats.format import CONFIG
from multimodal.zoo.formats.own import FORMAT, WEIGHTS, OwnFormat
from multimodal.zoo.golden import golden_vectors

KEPT_KEYS = ("golden", "contract")  # in a card, unless the new one has its own: `load` and `verify` need them
TITLES = {"figures": "Figures on the validation sets"}  # of keys whose title is not the key itself
HIDDEN = ("golden",)  # for `verify`, not for readers


def save_folder(
    folder: str | Path,
    name: str,
    network: nn.Module,
    inputs: Mapping[str, Preprocessor],
    card: dict[str, Any],
    dtype: torch.dtype | None = torch.bfloat16,
) -> None:
    """Write a model folder. `config.json` comes last: without it there is no model.

    network: of a registered kind, with its `config`. dtype: of the stored parameters; None keeps theirs. Contract and
    golden vectors are added to the card; the latter are computed from the folder, as a reader will load it.
    """
    from safetensors.torch import save

    folder = local_path(folder)
    weights = save({key: _rounded(tensor, dtype) for key, tensor in stored(network).items()})
    with atomic_write(folder / WEIGHTS) as file:
        file.write(weights)
    for preprocessor in inputs.values():
        save_preprocessor(preprocessor, folder)
    sha256 = hashlib.sha256(weights).hexdigest()
    table = {
        "format": FORMAT,
        "name": name,
        "model": MODELS.to_dict(network.config),
        "inputs": {modality: preprocessor.to_dict() for modality, preprocessor in inputs.items()},
        "weights_sha256": sha256,
        "card": card | {"contract": contract(network.config, inputs, sha256)},
    }
    write_text(folder / CONFIG, json.dumps(table, indent=1) + "\n")
    model = load_folder(folder, torch.device("cpu"), torch.float32)
    update_card(folder, card | {"contract": model.card["contract"], "golden": golden_vectors(model)})


def load_folder(folder: str | Path, device: torch.device, dtype: torch.dtype) -> Model:
    """The model in a folder that `save_folder` has written."""
    return build(OwnFormat().open(local_path(folder), None), device, dtype)


def update_card(folder: str | Path, card: dict[str, Any], charts: Mapping[str, bytes] | None = None) -> None:
    """Write `card` into config.json and README.md of a model folder, and `charts` by file name next to them.

    Golden vectors and the contract are kept unless `card` has its own.
    """
    path = local_path(folder) / CONFIG
    for name, data in (charts or {}).items():
        with atomic_write(path.with_name(name)) as file:
            file.write(data)
    table = json.loads(path.read_text(encoding="utf-8"))
    old = {key: value for key, value in table["card"].items() if key in KEPT_KEYS}
    table["card"] = old | card
    write_text(path, json.dumps(table, indent=1) + "\n")
    write_text(path.with_name("README.md"), card_text(table["name"], table["card"]))


def card_text(name: str, card: dict[str, Any]) -> str:
    """Flat tables and measures as tables, lists as lists, `charts` as images next to the card.

    Nested tables are only mentioned: they stay in config.json.
    """
    lines = [f"# {name}", ""]
    nested = []
    for key, value in card.items():
        if key in HIDDEN:
            continue
        title = [f"## {TITLES.get(key, key.replace('_', ' ').capitalize())}", ""]
        if isinstance(value, dict) and any(isinstance(v, dict | list | tuple) for v in value.values()):
            nested.append(f"`card.{key}`")
        elif key == "charts":
            for what, file in value.items():
                lines += [f"## {what}", "", f"![{what}]({file})", ""]
        elif key == "figures" and isinstance(value, list):
            rows = [f"| {' | '.join(measure.cells())} |" for measure in read_measures(value)]
            lines += [*title, "| data set | measure | value | n |", "|---|---|---|---|", *rows, ""]
        elif isinstance(value, dict):
            lines += [*title, "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in value.items()), ""]
        elif isinstance(value, list):
            lines += [*title, *(f"- {item}" for item in value), ""]
        else:
            lines += [*title, str(value), ""]
    return "\n".join([*lines, f"More in `config.json`: {', '.join(nested)}.", ""] if nested else lines)


def _rounded(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A parameter in `dtype`, see `compute_dtype`. Buffers (counts and statistics) keep theirs."""
    rounded = compute_dtype(tensor, dtype) if dtype is not None and isinstance(tensor, nn.Parameter) else None
    return tensor.detach().to("cpu", rounded).contiguous()
