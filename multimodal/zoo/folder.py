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
from multimodal.zoo.golden import golden_vectors

FORMAT = "multimodal-1"
KEYS = {"format", "name", "model", "transform", "tokenizer", "weights_sha256", "card"}
TITLES = {"figures": "Figures on the validation sets"}  # of the card; other keys are titles themselves


def save_folder(
    folder: str | Path,
    name: str,
    network: Network,
    config: NetworkConfig,
    transform: ImageTransform,
    tokenizer: Tokenizer,
    card: dict[str, Any],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a model folder; the weights are rounded to `dtype`. `config.json` comes last: no model without.

    Golden vectors are computed from what was written, as a reader will load it.
    """
    from safetensors.torch import save

    folder = Path(folder)
    parameters = network.named_parameters()  # a tied weight appears once
    weights = save({key: p.detach().to("cpu", dtype).contiguous() for key, p in parameters})
    with atomic_write(folder / "model.safetensors") as file:
        file.write(weights)
    save_tokenizer(tokenizer, folder)
    table = {
        "format": FORMAT,
        "name": name,
        "model": network_table(config),
        "transform": transform.to_dict(),
        "tokenizer": tokenizer.to_dict(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "card": card,
    }
    write_text(folder / "config.json", json.dumps(table, indent=1) + "\n")
    update_card(
        folder, card | {"golden": golden_vectors(load_folder(folder, torch.device("cpu"), torch.float32))}
    )


def update_card(folder: str | Path, card: dict[str, Any]) -> None:
    """Put `card` into the folder's config.json and README.md; golden vectors stay unless it has some."""
    path = Path(folder) / "config.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    old = {key: value for key, value in table["card"].items() if key == "golden"}
    table["card"] = old | card
    write_text(path, json.dumps(table, indent=1) + "\n")
    write_text(path.with_name("README.md"), card_text(table["name"], table["card"]))


def load_folder(folder: str | Path, device: torch.device, dtype: torch.dtype) -> Model:
    """The model in a folder; anything that does not fit is a ValueError with expected and got."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: expected a model folder with config.json, got none")
    try:
        table = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / 'config.json'}: expected JSON, got {error}") from error
    if not isinstance(table, dict) or table.get("format") != FORMAT or set(table) != KEYS:
        got = sorted(table) if isinstance(table, dict) else type(table).__name__
        raise ValueError(
            f"{folder / 'config.json'}: expected format {FORMAT!r} with {sorted(KEYS)}, got {got}"
        )
    try:
        weights = (folder / "model.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder}: expected model.safetensors beside config.json, got none"
        ) from error
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != table["weights_sha256"]:
        raise ValueError(
            f"{folder / 'model.safetensors'}: expected sha256 {table['weights_sha256']}, got {sha256}"
        )
    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise ValueError(f"{folder / 'model.safetensors'}: expected safetensors, got {error}") from error
    config = network_config(table["model"])
    tokenizer = load_tokenizer(table["tokenizer"], folder)
    transform = ImageTransform.from_dict(table["transform"])
    check_contract(config, transform, tokenizer)
    network = build(config)
    put_weights(network, tensors)
    network.to(device, dtype).eval().requires_grad_(False)
    return Model(network, transform, tokenizer, name=table["name"], card=table["card"])


def check_contract(config: NetworkConfig, transform: ImageTransform, tokenizer: Tokenizer) -> None:
    """Towers, transform and tokenizer must speak of the same pictures and tokens."""
    pairs = [
        ("transform.image_size", config.image.image_size, transform.image_size),
        ("tokenizer.vocab_size", config.text.vocab_size, tokenizer.vocab_size),
        ("tokenizer.eos_id", config.text.eos_id, tokenizer.eos_id),
    ]
    for name, expected, got in pairs:
        if expected != got:
            raise ValueError(f"{name}: expected {expected}, as the model has it, got {got}")
    if tokenizer.context_length > config.text.context_length:
        raise ValueError(
            f"tokenizer.context_length: expected at most {config.text.context_length}, got "
            f"{tokenizer.context_length}"
        )


def put_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy `tensors` into the parameters by name; a missing, spare or misshapen one is a ValueError."""
    parameters = dict(network.named_parameters())
    if set(parameters) != set(tensors):
        missing, spare = sorted(set(parameters) - set(tensors)), sorted(set(tensors) - set(parameters))
        raise ValueError(
            f"weights: expected those of the model, got {missing[:5]} missing, {spare[:5]} spare"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != tensors[name].shape:
                raise ValueError(
                    f"weights: expected {name} {tuple(parameter.shape)}, got {tuple(tensors[name].shape)}"
                )
            parameter.copy_(tensors[name])


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
