"""From an opened checkpoint to a model. What its config describes is compared with its weights first: nothing is
made that is larger than they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.encoders import OpenClipImageConfig, OpenClipTextConfig
from multimodal.model import Model
from multimodal.models import NetworkConfig, build
from multimodal.zoo.contract import check_contract, contract, text_part
from multimodal.zoo.opening import Foreign
from multimodal.zoo.weights import reason

SPARE = 100  # parameters of a network beyond twice those of its file: some towers make parts and drop them


def assemble(foreign: Foreign, sha256: str, device: torch.device, dtype: torch.dtype) -> Model:
    """The model of an opened checkpoint, its weights the copies in `dtype` on `device`.

    Raises ValueError where config, weights, transform and tokenizer do not fit together.
    """
    config, weights = foreign.config, foreign.weights
    with refusing(foreign.name):
        check_contract(config, foreign.transform, foreign.tokenizer)
        _check_names(config)
        with torch.device("meta"), _fitting(len(weights)):
            network = build(config)
        check_weights(network, weights)
    if set(dict(network.named_buffers())) <= set(network.state_dict()):
        _fill(network, weights, device, dtype)
    else:  # it has computed some of its buffers, which no file has
        network = build(config)
        put_weights(network, weights)
        network.to(device, dtype)
    network.eval().requires_grad_(False)
    card = foreign.card | {"contract": contract(config, foreign.transform, foreign.tokenizer, sha256)}
    return Model(network, foreign.transform, foreign.tokenizer, name=foreign.name, card=card)


def stored(network: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of the network holds: parameters, tied ones once, and what else it has learned."""
    kept = network.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in network.named_buffers() if name in kept}
    return dict(network.named_parameters()) | buffers


def check_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """ValueError where `tensors` are not those of the network: a missing, spare or misshapen one."""
    places = stored(network)
    if set(places) != set(tensors):
        missing, spare = sorted(set(places) - set(tensors)), sorted(set(tensors) - set(places))
        raise ValueError(
            f"weights: expected those of the model, got {missing[:5]} missing, {spare[:5]} spare"
        )
    for name, place in places.items():
        if place.shape != tensors[name].shape:
            raise ValueError(
                f"weights: expected {name} {tuple(place.shape)}, got {tuple(tensors[name].shape)}"
            )


def put_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy `tensors` into the network by name; a missing, spare or misshapen one is a ValueError."""
    check_weights(network, tensors)
    with torch.no_grad():
        for name, place in stored(network).items():
            place.copy_(tensors[name])


def _fill(network: nn.Module, tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> None:
    """Copies of `tensors` take the places of the network's, which have no memory yet; tied ones stay tied."""
    for name, place in stored(network).items():
        kind = dtype if place.is_floating_point() else place.dtype
        copy = tensors[name].to(device, kind, copy=True).contiguous()
        torch.utils.swap_tensors(
            place, nn.Parameter(copy, requires_grad=False) if isinstance(place, nn.Parameter) else copy
        )


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Whatever libraries raise over the values in a config comes out as ValueError, in one line that says where."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and "expected" in str(error):  # one of ours
            raise
        raise ValueError(f"{name}: expected files that fit together, got them {reason(error)}") from error


@contextmanager
def _fitting(count: int) -> Iterator[None]:
    """Modules made inside may have about so many parameters: a config may ask for a billion layers."""
    made = 0

    def register(*_: Any) -> None:
        nonlocal made
        made += 1
        if made > 2 * count + SPARE:
            raise ValueError(
                f"weights: expected those of the model, got {count}, far fewer than its config says"
            )

    handle = nn.modules.module.register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()


def _check_names(config: NetworkConfig) -> None:
    """Libraries take some names of towers as a reason to ask a hub."""
    image, text = config.image, text_part(config)
    if isinstance(image, OpenClipImageConfig):
        name = image.vision_cfg.get("timm_model_name") or ""
        if not str(name).replace("_", "").replace(".", "").isalnum() and name:
            raise ValueError(
                f"vision_cfg.timm_model_name: expected the name of a model of timm, got {name!r}"
            )
    if isinstance(text, OpenClipTextConfig) and (text.text_cfg.get("hf_model_name") or text.hf_config):
        from open_clip.hf_configs import arch_dict

        kind = text.hf_config.get("model_type")
        if kind not in arch_dict:
            raise ValueError(f"hf_config.model_type: expected one of {sorted(arch_dict)}, got {kind!r}")
        odd = {key: value for key, value in text.hf_config.items() if key.endswith("implementation")}
        if odd:
            raise ValueError(f"hf_config: expected no choice of code, got {odd}")
