"""`load`: one door to every model."""

from pathlib import Path

import torch

from multimodal.model import Model
from multimodal.models import build
from multimodal.zoo.catalogue import SHIPPED
from multimodal.zoo.contract import check_contract, contract
from multimodal.zoo.device import choose_device, fast_dtype
from multimodal.zoo.folder import load_folder, put_weights
from multimodal.zoo.formats import salesforce
from multimodal.zoo.golden import verify as check_golden
from multimodal.zoo.hub import PREFIX, Located, is_tag, locate
from multimodal.zoo.opening import (
    TRANSFORMERS_CONFIG,
    Foreign,
    open_folder,
    open_open_clip,
    open_salesforce,
    read_json,
    with_positions,
)
from multimodal.zoo.reading import read_weights

DEFAULT = "small"


def load(
    name: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    interpolate_positions: bool = False,
    verify: bool = False,
) -> Model:
    """A model ready to use; without a name, the one in the package.

    name: one that `models()` lists ("small", "ViT-B-32:laion2b_s34b_b79k"), a repository of a hub
        ("hf-hub:org/name" or "org/name"), a folder (a run's, open_clip's or that of transformers), an original
        BLIP file, or with `weights` an architecture of open_clip. Folders and files never touch the network.
    weights: the file with the weights of the architecture `name`.
    tokenizer: the folder of a tokenizer that does not lie beside the weights.
    device: chosen by itself where None; dtype: what the network computes in; None is bfloat16 where that is
        several times as fast (CUDA; a CPU with AMX or AVX512-BF16) and float32 elsewhere.
    image_size, interpolate_positions: pictures of another size, for which positions lie between learned ones.
    verify: compute the golden vectors in the folder again, and refuse a model that no longer gives them.

    Raises FileNotFoundError where there is no such model, and ValueError where a checkpoint contradicts itself
    or its name: the activation, the tokenizer, the size of pictures, the hash.

    >>> model = load()
    >>> model.classify("cat.jpg", ["cat", "dog"]).label  # doctest: +SKIP
    'cat'
    """
    chosen = choose_device(device)
    dtype = fast_dtype(chosen) if dtype is None else dtype
    name = DEFAULT if name is None else str(name)
    folder = SHIPPED.get(name, Path(name))
    if weights is None and (folder / TRANSFORMERS_CONFIG).is_file():
        table = read_json(folder / TRANSFORMERS_CONFIG)
        if "format" in table or table.get("model_type") is None:
            model = load_folder(folder, chosen, dtype)
            return _checked(model) if verify else model
    foreign = with_positions(_open(name, weights, tokenizer), image_size, interpolate_positions)
    model = assemble(foreign, chosen, dtype)
    return _checked(model) if verify else model


def _open(name: str, weights: str | Path | None, tokenizer: str | Path | None) -> Foreign:
    """The checkpoint behind a name that is none of our folders."""
    path = Path(name)
    if weights is not None:
        if not Path(weights).exists():
            raise FileNotFoundError(f"weights: expected a file, got {weights}, which is not there")
        return _of_architecture(name, Located(Path(weights), name), tokenizer)
    if path.is_dir():
        return open_folder(path, tokenizer)
    if path.is_file():
        state = read_weights(path)
        if not salesforce.recognised(state):
            raise ValueError(
                f"{path}: expected an original BLIP file, or the name of an architecture of open_clip with "
                f"weights={str(path)!r}, got a state dict with {sorted(state)[:3]}"
            )
        return open_salesforce(path, state, None if tokenizer is None else Path(tokenizer))
    if not is_tag(name) and "/" not in name.removeprefix(PREFIX):
        raise FileNotFoundError(
            f"model: expected a folder, a file, one of {sorted(SHIPPED)}, 'ARCHITECTURE:TAG' of open_clip or "
            f"'org/name' of a hub, got {name!r}; `multimodal models` lists names"
        )
    found = locate(name)
    if found.architecture is None:
        return open_folder(found.weights, tokenizer)
    return _of_architecture(name, found, tokenizer)


def _of_architecture(name: str, found: Located, tokenizer: str | Path | None) -> Foreign:
    import open_clip

    table = open_clip.get_model_config(found.architecture)
    if table is None:
        raise FileNotFoundError(f"model: expected an architecture of open_clip, got {found.architecture!r}")
    return open_open_clip(name, found.weights, table, found.preprocess, tokenizer)


def assemble(foreign: Foreign, device: torch.device, dtype: torch.dtype) -> Model:
    """The model of an opened checkpoint."""
    check_contract(foreign.config, foreign.transform, foreign.tokenizer)
    network = build(foreign.config)
    put_weights(network, foreign.weights)
    network.to(device, dtype).eval().requires_grad_(False)
    parts = (foreign.config, foreign.transform, foreign.tokenizer)
    card = foreign.card | {"contract": contract(*parts, foreign.card["weights"]["sha256"])}
    return Model(network, foreign.transform, foreign.tokenizer, name=foreign.name, card=card)


def _checked(model: Model) -> Model:
    check_golden(model)
    return model
