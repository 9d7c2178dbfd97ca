"""What a run starts with: its fingerprint, its preprocessors and its network."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from multimodal.config import fill, to_dict
from multimodal.datasets import Mixture
from multimodal.distributed import barrier, rank
from multimodal.model import Model
from multimodal.models import build_model, encoder_configs
from multimodal.preprocess import ImageTransform, Tokenizer
from multimodal.preprocess.preprocessor import PREPROCESSORS, Preprocessor, save_preprocessor
from multimodal.training.config import RunConfig
from multimodal.zoo.build import put_weights, stored

# What may change between the start of a run and its continuation.
MAY_CHANGE = ("name", "validation", "log_every", "evaluate_every", "checkpoint_every", "workers", "card")


def run_fingerprint(config: RunConfig) -> str:
    """Equal for two run files whose steps are the same."""
    decisive = {key: value for key, value in to_dict(config).items() if key not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def make_inputs(config: RunConfig, start: Model | None, out: Path) -> dict[str, Preprocessor]:
    """The preprocessors of everything but text: from the run file, else from the start model, else by default."""
    inputs: dict[str, Preprocessor] = {}
    for modality in encoder_configs(config.model):
        if modality == "text":
            continue
        if modality in config.inputs:
            inputs[modality] = PREPROCESSORS.build(config.inputs[modality], out)
        elif start is not None and modality in start.inputs:
            inputs[modality] = start.inputs[modality]
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
    return fill(model, **{key: getattr(tokenizer, key) for key in ("vocab_size", "context_length", "eos_id")})


def make_network(config: Any, seed: int, start: Model | None) -> nn.Module:
    """The network of a model config, with the weights of `start` in the parts that both have.

    A part is a module such as `encoders.image` or `decoder`, or a parameter of the network such as `logit_scale`.
    Raises ValueError for a part whose weights differ in name or shape, and if the two have no part in common.
    """
    torch.manual_seed(seed)
    network = build_model(config)
    if start is None:
        return network
    mine, theirs = stored(network), stored(start.network)
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
