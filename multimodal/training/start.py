"""What a run begins with: its fingerprint, its tokenizer and its network."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from multimodal.datasets import Mixture
from multimodal.distributed import barrier, rank
from multimodal.model import Model
from multimodal.models import Captioner, CaptionerConfig, Trainable, TrainableConfig, build
from multimodal.preprocess import (
    PREPROCESSORS,
    BPESettings,
    BPETokenizer,
    ClipTokenizer,
    Tokenizer,
    save_preprocessor,
)
from multimodal.training.config import RunConfig, TokenizerConfig
from multimodal.zoo import put_weights

# What may change between the start of a run and its continuation.
FREE = ("name", "validation", "log_every", "evaluate_every", "checkpoint_every", "workers", "card")


def run_fingerprint(config: RunConfig) -> str:
    """Equal for two run files whose steps are the same."""
    decisive = {key: value for key, value in asdict(config).items() if key not in FREE}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def make_tokenizer(config: TokenizerConfig, mixture: Mixture, out: Path, resume: bool) -> Tokenizer:
    """CLIP's, or one trained on the captions of the mixture: rank 0 trains it, all ranks read it in `out`."""
    if config.kind == "clip":
        return ClipTokenizer(config.context_length)
    if rank() == 0 and not resume:
        save_preprocessor(BPETokenizer.train(mixture.texts, config.vocab_size, config.context_length), out)
    barrier()
    tokenizer = PREPROCESSORS.build(BPESettings(config.context_length), out)
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


def with_tokenizer(config: TrainableConfig, tokenizer: Tokenizer) -> TrainableConfig:
    """`config` with the vocabulary, length and end token of the tokenizer."""
    if tokenizer.eos_id is None:
        raise ValueError("tokenizer: expected one with an eos_id, by which a text is known to end, got none")
    vocab_size, length = tokenizer.vocab_size, tokenizer.context_length
    text = replace(config.text, vocab_size=vocab_size, context_length=length, eos_id=tokenizer.eos_id)
    if not isinstance(config, CaptionerConfig):
        return replace(config, text=text)
    decoder = replace(config.decoder, vocab_size=vocab_size, context_length=length)
    return replace(config, text=text, decoder=decoder)


def make_network(config: TrainableConfig, seed: int, start: Model | None) -> Trainable:
    """The network with the weights of `start` where it has such parts, and random ones elsewhere."""
    torch.manual_seed(seed)
    network = build(config)
    assert isinstance(network, Trainable)
    if start is not None:
        dual = network.dual if isinstance(network, Captioner) else network
        put_weights(dual, dict(start.dual.named_parameters()))
        if isinstance(network, Captioner) and isinstance(start.network, Captioner):
            put_weights(network.decoder, dict(start.network.decoder.named_parameters()))
    return network


def make_label_head(config: RunConfig, labels: int) -> nn.Linear | None:
    """The classifier of the labels that the data have, if any stage needs it; thrown away after training."""
    if not labels or not any(stage.objective.classification for stage in config.plan()):
        return None
    return nn.Linear(config.model.embed_dim, labels, bias=False)


def freeze(network: nn.Module, names: tuple[str, ...]) -> None:
    """Train all but the modules called `names` ("dual", "dual.image_encoder", ...)."""
    network.requires_grad_(True)
    modules = dict(network.named_modules())
    for name in names:
        if name not in modules or not name:
            known = [key for key, _ in network.named_children()]
            raise ValueError(f"freeze: expected the name of a module, such as {known}, got {name!r}")
        modules[name].requires_grad_(False)
