"""A model as a folder: model.safetensors, config.json, tokenizer files and a card (README.md)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.files import atomic_write, write_text
from multimodal.model import Model
from multimodal.models import Network, NetworkConfig, network_config, network_table
from multimodal.preprocess import ImageTransform, Tokenizer, load_tokenizer, save_tokenizer
from multimodal.zoo.assemble import assemble, stored
from multimodal.zoo.card import card_text
from multimodal.zoo.contract import check_stored, contract
from multimodal.zoo.golden import golden_vectors
from multimodal.zoo.opening import Foreign, read_json
from multimodal.zoo.reading import read_weights

FORMAT = "multimodal-1"
KEYS = {"format", "name", "model", "transform", "tokenizer", "weights_sha256", "card"}
KEPT = ("golden", "contract")  # of a card: for `load` and `verify`, which new figures do not change


def save_folder(
    folder: str | Path,
    name: str,
    network: Network,
    config: NetworkConfig,
    transform: ImageTransform,
    tokenizer: Tokenizer,
    card: dict[str, Any],
    dtype: torch.dtype | None = torch.bfloat16,
) -> None:
    """Write a model folder. `config.json` comes last: without it there is no model.

    dtype: what the weights are rounded to; None: as they are. The contract goes into the card, and golden
    vectors, which are computed from what was written, as a reader will load it.
    """
    from safetensors.torch import save

    folder = Path(folder)
    weights = save({key: _rounded(tensor, dtype) for key, tensor in stored(network).items()})
    with atomic_write(folder / "model.safetensors") as file:
        file.write(weights)
    sha256 = hashlib.sha256(weights).hexdigest()
    card = card | {"contract": contract(config, transform, tokenizer, sha256)}
    save_tokenizer(tokenizer, folder)
    table = {
        "format": FORMAT,
        "name": name,
        "model": network_table(config),
        "transform": transform.to_dict(),
        "tokenizer": tokenizer.to_dict(),
        "weights_sha256": sha256,
        "card": card,
    }
    write_text(folder / "config.json", json.dumps(table, indent=1) + "\n")
    update_card(
        folder, card | {"golden": golden_vectors(load_folder(folder, torch.device("cpu"), torch.float32))}
    )


def _rounded(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A parameter in `dtype`; counts and statistics, which are buffers, as they are."""
    tensor = (
        tensor.detach().cpu()
        if dtype is None or not isinstance(tensor, nn.Parameter)
        else tensor.detach().to("cpu", dtype)
    )
    return tensor.contiguous()


def update_card(folder: str | Path, card: dict[str, Any], charts: dict[str, bytes] | None = None) -> None:
    """Write `card` into config.json and README.md of a model folder, and `charts` by file name next to them.

    Golden vectors and the contract are kept unless `card` has its own.
    """
    path = Path(folder) / "config.json"
    for name, data in (charts or {}).items():
        with atomic_write(path.with_name(name)) as file:
            file.write(data)
    table = json.loads(path.read_text(encoding="utf-8"))
    old = {key: value for key, value in table["card"].items() if key in KEPT}
    table["card"] = old | card
    write_text(path, json.dumps(table, indent=1) + "\n")
    write_text(path.with_name("README.md"), card_text(table["name"], table["card"]))


def load_folder(folder: str | Path, device: torch.device, dtype: torch.dtype) -> Model:
    """The model in a folder; anything that does not fit is a ValueError with expected and got."""
    opened, sha256 = open_own(Path(folder))
    return assemble(opened, sha256, device, dtype)


def open_own(folder: Path) -> tuple[Foreign, str]:
    """What `save_folder` has written, as other checkpoints are opened, and the sha256 of its weights."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: expected a model folder with config.json, got none")
    table = read_json(folder / "config.json")
    if table.get("format") != FORMAT or set(table) != KEYS:
        raise ValueError(
            f"{folder / 'config.json'}: expected format {FORMAT!r} with {sorted(KEYS)}, got {sorted(table)}"
        )
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise FileNotFoundError(f"{folder}: expected model.safetensors beside config.json, got none")
    for key in ("model", "card"):
        if not isinstance(table[key], dict):
            raise ValueError(f"{folder / 'config.json'}: expected {key} to be a table, got {table[key]!r}")
    sha256 = str(table["weights_sha256"])
    tensors = read_weights(weights, sha256=sha256)
    config = network_config(table["model"])
    tokenizer = load_tokenizer(table["tokenizer"], folder)
    transform = ImageTransform.from_dict(table["transform"])
    check_stored(table["card"].get("contract", {}), contract(config, transform, tokenizer, sha256))
    return Foreign(str(table["name"]), config, tensors, transform, tokenizer, table["card"]), sha256
