"""A small text decoder, and inputs for it."""

import torch
from torch import nn

from multimodal.decoders import TextDecoder, TextDecoderConfig
from multimodal.layers import Encoded, Memory

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS, MEMORY_WIDTH = 50, 12, 32, 4, 3, 24
POSITIONS = ["learned", "rotary", "relative"]
MODERN = {"norm": "rms", "mlp": "gated", "activation": "silu", "bias": False}


def spread(module: nn.Module) -> None:
    """Weights so large that every path through the network counts."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)


def make_decoder(memory_width: int | None = MEMORY_WIDTH, **fields) -> TextDecoder:
    torch.manual_seed(0)
    given = {"vocab_size": VOCABULARY, "context_length": CONTEXT, "memory_width": memory_width}
    sizes = {"width": WIDTH, "layers": LAYERS, "heads": HEADS}
    if fields.get("norm_order") == "post":
        fields = {"head": "bert"} | fields
    decoder = TextDecoder(TextDecoderConfig(**(given | sizes | fields)))
    spread(decoder)
    return decoder.eval()


def make_memory(rows: int = 3, padded: bool = True) -> Encoded:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, 5, MEMORY_WIDTH, generator=generator)
    mask = torch.arange(5) < torch.tensor([5, 2, 4])[:rows, None] if padded else None
    return Encoded(features, features[:, 0], mask)


def make_tokens(rows: int = 3, length: int = CONTEXT) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(2))


def project(decoder: TextDecoder, encoded: Encoded | None) -> Memory | None:
    return None if encoded is None else decoder.project_memory(encoded)


def assert_near(got: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < tolerance * expected.abs().max()
