"""Models of transformers with random weights, saved by transformers with a processor made here."""

import json

import numpy as np
import torch
from PIL import Image

from tests.preprocess.texts.peers import PEERS

TEXTS = ["a cat", "Two dogs on a Beach, far away!", "ein Löwe und ein Käfer, façade"]


def randomised(peer, gain=1.0, seed=0):
    """Random parameters, norms and biases included. logit_scale keeps its value.

    gain: by which a matrix scales vectors of any width.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(peer.named_parameters()):
            if name in ("logit_scale", "logit_bias"):
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(gain * noise * parameter[0].numel() ** -0.5)
    return peer.eval()


def draw(count):
    """Images of odd sizes, all different."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        width, height = rng.integers(20, 120, 2).tolist()
        blocks = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        yield Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)


def vocabulary(kind):
    """The size of the vocabulary of a tokenizer."""
    return len(PEERS[kind].make())


def save(folder, peer, tokenizer, processor):
    """As `save_pretrained` writes them, the processor in a file of its own as on the hub."""
    peer.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def edit(path, **changes):
    """Change a JSON file; keys with the value None are dropped."""
    table = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in table.items() if value is not None}))
