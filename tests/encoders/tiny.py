"""A small text encoder, and tokens for it."""

import torch

from multimodal.encoders import TextEncoder, TextEncoderConfig
from tests.layers.peers import randomise

EOS, VOCAB, WIDTH, HEADS, LAYERS, CONTEXT = 9, 30, 24, 3, 2, 12
LENGTHS = [3, 8, 5, 2]
POSITIONS = ["learned", "rotary", "relative"]


def make(**fields) -> TextEncoder:
    torch.manual_seed(0)
    given = {"vocab_size": VOCAB, "context_length": CONTEXT, "eos_id": EOS}
    sizes = {"width": WIDTH, "layers": LAYERS, "heads": HEADS}
    return randomise(TextEncoder(TextEncoderConfig(**(given | sizes | fields))), 0.2).eval()


def make_tokens(lengths=LENGTHS, columns=CONTEXT) -> torch.Tensor:
    tokens = torch.randint(10, VOCAB, (len(lengths), columns), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(lengths):
        tokens[row, length - 1] = EOS
        tokens[row, length:] = 0
    return tokens
