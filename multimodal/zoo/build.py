"""From a checkpoint to a model. The weights are compared with the config on the meta device first, so that nothing is
allocated that is larger than they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.config import fill
from multimodal.layers import resize_positions
from multimodal.model import Model
from multimodal.models import build_model, cast, compute_dtype, encoder_configs
from multimodal.zoo.contract import check_contract, contract
from multimodal.zoo.formats import Checkpoint
from multimodal.zoo.weights import CheckpointError, wrap_errors

MAX_DISCARDED_PARAMETERS = 100  # beyond twice the tensors of the file: some towers create parts and drop them
POSITIONS = "encoders.image.positions"


def build(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Model:
    """The model of a checkpoint, with copies of its weights in `dtype` on `device`.

    Raises CheckpointError if config, weights and preprocessors do not fit together.
    """
    config, weights, inputs = checkpoint.config, checkpoint.weights, checkpoint.inputs
    check_contract(config, inputs)
    with wrap_errors(f"{checkpoint.name}: could not build the model", OSError, ImportError, plain=ValueError):
        with torch.device("meta"), _at_most(2 * len(weights) + MAX_DISCARDED_PARAMETERS):
            network = build_model(config)
        check_weights(network, weights)
        if not set(dict(network.named_buffers())) <= set(network.state_dict()):
            network = build_model(config)  # it computes buffers that no file has
        _fill(network, weights, device, dtype)
    network.eval().requires_grad_(False)
    card = checkpoint.card | {"contract": contract(config, inputs, checkpoint.sha256)}
    return Model(network, inputs, name=checkpoint.name, card=card)


def stored(network: nn.Module) -> dict[str, Tensor]:
    """The tensors that a checkpoint of the network holds: parameters, tied ones once, and persistent buffers."""
    kept = network.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in network.named_buffers() if name in kept}
    return dict(network.named_parameters()) | buffers


def check_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise CheckpointError if names or shapes differ from the tensors of the network."""
    places = stored(network)
    if set(places) != set(tensors):
        missing, unknown = sorted(set(places) - set(tensors)), sorted(set(tensors) - set(places))
        raise CheckpointError(f"weights do not match the config: missing {missing[:5]}, unknown {unknown[:5]}")
    for name, place in places.items():
        if place.shape != tensors[name].shape:
            raise CheckpointError(
                f"weights do not match the config: {name}: expected {tuple(place.shape)}, "
                f"got {tuple(tensors[name].shape)}"
            )


def put_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy `tensors` into the network by name. Raises CheckpointError if they do not match it."""
    check_weights(network, tensors)
    with torch.no_grad():
        for name, place in stored(network).items():
            place.copy_(tensors[name])


def with_positions(checkpoint: Checkpoint, image_size: int | None, interpolate: bool) -> Checkpoint:
    """The checkpoint for images of `image_size`, by default the size of its transform.

    Raises CheckpointError if that requires positions between the learned ones, unless `interpolate`.
    """
    encoder: Any = encoder_configs(checkpoint.config).get("image")
    transform: Any = checkpoint.inputs.get("image")
    if not hasattr(encoder, "image_size") or not hasattr(transform, "image_size"):
        if image_size is not None:
            raise CheckpointError(f"image_size: expected None for this model, got {image_size}")
        return checkpoint
    wanted = transform.image_size if image_size is None else image_size
    positions = checkpoint.weights.get(POSITIONS)  # [N, W]
    if not hasattr(encoder, "grid") or positions is None:
        if wanted != encoder.image_size:
            raise CheckpointError(f"image_size: expected {encoder.image_size} for this model, got {wanted}")
        return checkpoint
    side = int(len(positions) ** 0.5)  # patches down and across; at most one token stands before them
    trained = encoder.image_size if side == encoder.grid else side * encoder.patch_size
    if wanted == trained == encoder.image_size:
        return checkpoint
    got = encoder.image_size if image_size is None and wanted == trained else wanted
    if got != trained and not interpolate:
        raise CheckpointError(
            f"image_size: expected {trained}, with which the model was trained, got {got}; "
            "interpolate_positions=True allows other sizes"
        )
    config = fill(checkpoint.config, image_size=wanted)
    grid = encoder_configs(config)["image"].grid
    return replace(
        checkpoint,
        config=config,
        weights=checkpoint.weights | {POSITIONS: resize_positions(positions, (grid, grid))},
        inputs=checkpoint.inputs | {"image": replace(transform, image_size=wanted)},
    )


def _fill(network: nn.Module, tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> None:
    """Replace the tensors of a network, possibly on the meta device, by copies of `tensors`; tied ones stay tied.

    Raises CheckpointError for tensors with NaN or infinity, of a run that diverged or beyond the range of `dtype`.
    """
    for name, place in stored(network).items():
        copy = tensors[name].to(device, compute_dtype(place, dtype), copy=True).contiguous()
        # The extremes show NaN and infinity, in one pass without a temporary.
        if copy.is_floating_point() and copy.numel() and not torch.stack(copy.aminmax()).isfinite().all():
            raise CheckpointError(f"weights: expected finite numbers in {dtype}, got NaN or infinity in {name}")
        torch.utils.swap_tensors(
            place, nn.Parameter(copy, requires_grad=False) if isinstance(place, nn.Parameter) else copy
        )
    cast(network, dtype, device)  # buffers that no file has


@contextmanager
def _at_most(limit: int) -> Iterator[None]:
    """Refuse to make modules with more parameters than `limit`: a config may ask for a billion layers."""
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1
        if made > limit:
            raise CheckpointError(f"weights do not match the config: expected more than {limit} tensors")

    handle = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
