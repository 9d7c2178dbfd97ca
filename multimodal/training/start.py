"""What a run starts with: its fingerprint, its preprocessors and its network."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from multimodal.config import fill, to_dict
from multimodal.datasets import Mixture
from multimodal.distributed import barrier, rank
from multimodal.files import local_path
from multimodal.layers import resize_positions
from multimodal.model import Model
from multimodal.models import build_model, encoder_configs
from multimodal.preprocess import ImageTransform, Tokenizer
from multimodal.preprocess.preprocessor import PREPROCESSORS, Preprocessor, save_preprocessor
from multimodal.training.config import RunConfig
from multimodal.zoo import load
from multimodal.zoo.build import POSITIONS, put_weights, stored

# What may change between the start of a run and its continuation.
EVERY = ("log_every", "evaluate_every", "checkpoint_every")
MAY_CHANGE = ("name", "validation", *EVERY, "workers", "card", "max_cache_gb")
OF_TOKENIZER = ("vocab_size", "context_length", "eos_id")
# Fields of encoders and decoders that are set by the run, or by the other parts of the model
MAY_DIFFER = ("dropout", "image_size", "memory_width", *OF_TOKENIZER)


def run_fingerprint(config: RunConfig) -> str:
    """Equal for two run files whose steps are the same."""
    decisive = {key: value for key, value in to_dict(config).items() if key not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def open_start(config: RunConfig) -> tuple[RunConfig, Model | None]:
    """The config with a model, and the model that the run starts with, if any, with the `inputs` that the run keeps.

    Its transform takes the image_size of the config. A learned bias (SigLIP) is kept. Raises ValueError for [inputs]
    and [model] that contradict it, unless `change_inputs`.
    """
    if config.start_from is None:
        return config, None
    start = load(local_path(config.start_from), device="cpu", dtype=torch.float32)
    model: Any = start.network.config if config.model is None else config.model
    bias: Any = getattr(start.network, "logit_bias", None)
    if bias is not None and getattr(model, "logit_bias", bias) is None:
        model = replace(model, logit_bias=float(bias))
    config = replace(config, model=model)
    transform: Any = start.inputs.get("image")
    if config.image_size is not None and getattr(transform, "image_size", config.image_size) != config.image_size:
        start.inputs["image"] = replace(transform, image_size=config.image_size)
    if config.change_inputs:
        start.inputs = {name: each for name, each in start.inputs.items() if name not in config.inputs}
    else:
        check_agreement(config, start)
    return config, start


def check_agreement(config: RunConfig, start: Model) -> None:
    """Raise ValueError if the run would read inputs in another way than the start model."""
    pairs: list[tuple[str, Any, Any]] = []
    for modality in sorted(config.inputs.keys() & start.inputs.keys()):
        settings, expected = config.inputs[modality], start.inputs[modality].to_dict()
        table = settings.to_dict() if hasattr(settings, "to_dict") else PREPROCESSORS.to_dict(settings)
        # A tokenizer that is trained agrees if the one of the start model was trained by the same table.
        if not hasattr(settings, "train") or start.card.get("run", {}).get("inputs", {}).get(modality) != table:
            pairs += [(f"inputs.{modality}.{key}", expected.get(key), got) for key, got in table.items() if got != {}]
    for name, part in parts_of(start.network.config).items():
        mine, theirs = parts_of(config.model).get(name), vars(part).items()
        pairs += [(f"model.{name}.{key}", v, getattr(mine, key, v)) for key, v in theirs if key not in MAY_DIFFER]
    for where, expected, got in pairs:
        if expected != got:
            wanted = f"expected {expected!r} as in start_from, or change_inputs = true"
            raise ValueError(f"{where}: {wanted}, got {got!r}")


def parts_of(model: Any) -> dict[str, Any]:
    """The configs of the encoders and of the decoder, by the names of their modules."""
    parts = {f"encoders.{modality}": each for modality, each in encoder_configs(model).items()}
    return parts | ({"decoder": model.decoder} if hasattr(model, "decoder") else {})


def make_inputs(config: RunConfig, start: Model | None, out: Path) -> dict[str, Preprocessor]:
    """The preprocessors of everything but text: from the start model, else from the run file, else by default."""
    inputs: dict[str, Preprocessor] = {}
    for modality in encoder_configs(config.model):
        if modality == "text":
            continue
        if start is not None and modality in start.inputs:
            inputs[modality] = start.inputs[modality]
        elif modality in config.inputs:
            inputs[modality] = PREPROCESSORS.build(config.inputs[modality], out)
        elif modality == "image" and config.image_size is not None:
            inputs[modality] = ImageTransform(config.image_size)
        else:
            raise ValueError(f"inputs.{modality}: expected a table, which the model needs, got none")
    return inputs


def make_tokenizer(config: RunConfig, start: Model | None, mixture: Mixture, out: Path, resume: bool) -> Tokenizer:
    """The tokenizer of the start model, or of the run file; one that is trained learns from the captions of the
    mixture on rank 0, and all ranks read it from `out`."""
    tokenizer: Any = None if start is None else start.inputs.get("text")
    if tokenizer is None:
        settings = config.inputs.get("text") or PREPROCESSORS.from_dict({"kind": "bpe"})
        if hasattr(settings, "train"):
            if rank() == 0 and not resume:
                save_preprocessor(settings.train(mixture.texts), out)
            barrier()
        tokenizer = PREPROCESSORS.build(settings, out)
    return tokenizer  # type: ignore[no-any-return]


def with_tokenizer(model: Any, tokenizer: Tokenizer) -> Any:
    """The model config with the vocabulary, length and end token of the tokenizer in its encoders and decoders.

    Raises ValueError for a tokenizer without an end token.
    """
    if tokenizer.eos_id is None:
        raise ValueError("tokenizer: expected one with an eos_id, which marks the end of a text, got none")
    return fill(model, **{key: getattr(tokenizer, key) for key in OF_TOKENIZER})


def make_network(model: Any, tokenizer: Tokenizer, seed: int, start: Model | None) -> nn.Module:
    """The network of a model config, with the weights of `start` in the parts that both have.

    A part is a module such as `encoders.image` or `decoder`, or a parameter of the network such as `logit_scale`.
    Positions of patches are interpolated to the image size of the config. Raises ValueError for a part whose weights
    differ in name or shape, and if the two have no part in common.
    """
    torch.manual_seed(seed)
    if start is None or model is not start.network.config:
        model = with_tokenizer(model, tokenizer)
    network = build_model(model)
    if start is None:
        return network
    mine, theirs = stored(network), stored(start.network)
    grid = getattr(encoder_configs(model).get("image"), "grid", 0)
    if grid and POSITIONS in theirs:
        theirs[POSITIONS] = resize_positions(theirs[POSITIONS], (grid, grid))
    expected, got = set(map(part, mine)), set(map(part, theirs))
    if not expected & got:
        raise ValueError(f"start_from: expected a model with some of {sorted(expected)}, got {sorted(got)}")
    kept = {name: tensor for name, tensor in mine.items() if part(name) not in got}
    put_weights(network, kept | {name: tensor for name, tensor in theirs.items() if part(name) in expected})
    return network


def part(name: str) -> str:
    """The part that a parameter belongs to: encoders and projections count one by one."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first in ("encoders", "projections") else first
