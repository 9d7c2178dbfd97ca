"""A model as a folder: model.safetensors, config.json, tokenizer files and a card (README.md)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.files import atomic_write, write_text
from multimodal.model import Model
from multimodal.models import Network, NetworkConfig, build, network_config, network_table
from multimodal.preprocess import ImageTransform, Tokenizer, load_tokenizer, save_tokenizer
from multimodal.zoo.contract import check_contract, check_stored, contract
from multimodal.zoo.golden import golden_vectors
from multimodal.zoo.reading import read_weights

FORMAT = "multimodal-1"
KEYS = {"format", "name", "model", "transform", "tokenizer", "weights_sha256", "card"}
KEPT = ("golden", "contract")  # of a card: for `load` and `verify`, which new figures do not change
TITLES = {"figures": "Figures on the validation sets"}  # of the card; other keys are titles themselves


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


def update_card(folder: str | Path, card: dict[str, Any]) -> None:
    """Put `card` into the folder's config.json and README.md; golden vectors and contract stay unless it has some."""
    path = Path(folder) / "config.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    old = {key: value for key, value in table["card"].items() if key in KEPT}
    table["card"] = old | card
    write_text(path, json.dumps(table, indent=1) + "\n")
    write_text(path.with_name("README.md"), card_text(table["name"], table["card"]))


def load_folder(folder: str | Path, device: torch.device, dtype: torch.dtype) -> Model:
    """The model in a folder; anything that does not fit is a ValueError with expected and got."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: expected a model folder with config.json, got none")
    try:
        table = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{folder / 'config.json'}: expected JSON, got {error}") from error
    if not isinstance(table, dict) or table.get("format") != FORMAT or set(table) != KEYS:
        got = sorted(table) if isinstance(table, dict) else type(table).__name__
        raise ValueError(
            f"{folder / 'config.json'}: expected format {FORMAT!r} with {sorted(KEYS)}, got {got}"
        )
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise FileNotFoundError(f"{folder}: expected model.safetensors beside config.json, got none")
    tensors = read_weights(weights, sha256=str(table["weights_sha256"]))
    config = network_config(table["model"])
    tokenizer = load_tokenizer(table["tokenizer"], folder)
    transform = ImageTransform.from_dict(table["transform"])
    check_contract(config, transform, tokenizer)
    now = contract(config, transform, tokenizer, table["weights_sha256"])
    check_stored(table["card"].get("contract", {}), now)
    network = build(config)
    put_weights(network, tensors)
    network.to(device, dtype).eval().requires_grad_(False)
    return Model(network, transform, tokenizer, name=table["name"], card=table["card"] | {"contract": now})


def stored(network: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of the network holds: parameters, tied ones once, and what else it has learned."""
    kept = network.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in network.named_buffers() if name in kept}
    return dict(network.named_parameters()) | buffers


def put_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy `tensors` into the network by name; a missing, spare or misshapen one is a ValueError."""
    places = stored(network)
    if set(places) != set(tensors):
        missing, spare = sorted(set(places) - set(tensors)), sorted(set(tensors) - set(places))
        raise ValueError(
            f"weights: expected those of the model, got {missing[:5]} missing, {spare[:5]} spare"
        )
    with torch.no_grad():
        for name, place in places.items():
            if place.shape != tensors[name].shape:
                raise ValueError(
                    f"weights: expected {name} {tuple(place.shape)}, got {tuple(tensors[name].shape)}"
                )
            place.copy_(tensors[name])


def card_text(name: str, card: dict[str, Any]) -> str:
    """The model card as Markdown: flat tables as tables, lists as lists, `pictures` as those of that name
    beside it; what is nested stays in config.json."""
    lines = [f"# {name}", ""]
    nested = []
    for key, value in card.items():
        if key == "golden":  # for `verify`, not for readers
            continue
        title = [f"## {TITLES.get(key, key.replace('_', ' ').capitalize())}", ""]
        if isinstance(value, dict) and any(isinstance(v, dict | list | tuple) for v in value.values()):
            nested.append(f"`card.{key}`")
        elif key == "pictures":
            for what, file in value.items():
                lines += [f"## {what}", "", f"![{what}]({file})", ""]
        elif isinstance(value, dict):
            lines += [*title, "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in value.items()), ""]
        elif isinstance(value, list):
            lines += [*title, *(f"- {item}" for item in value), ""]
        else:
            lines += [*title, str(value), ""]
    return "\n".join([*lines, f"More in `config.json`: {', '.join(nested)}.", ""] if nested else lines)
