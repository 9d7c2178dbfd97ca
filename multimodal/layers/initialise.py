"""Initial weights of our transformers, all in one place."""

from torch import nn

from multimodal.layers.block import Block


def initialise(embedding: nn.Embedding, positions: nn.Parameter | None, blocks: list[Block]) -> None:
    """Radford et al. 2021 (CLIP's `initialize_parameters`): normal, residual outputs scaled by depth."""
    nn.init.normal_(embedding.weight, std=0.02)
    if positions is not None:
        nn.init.normal_(positions, std=0.01)
    width = embedding.embedding_dim
    for block in blocks:
        for name, linear in block.named_modules():
            if not isinstance(linear, nn.Linear):
                continue
            std = width**-0.5
            if name in ("attention.out", "cross.out", "mlp.2", "mlp.down"):  # added to the residual stream
                std *= (2 * len(blocks)) ** -0.5
            elif name in ("mlp.0", "mlp.gate", "mlp.up"):
                std = (2 * width) ** -0.5
            nn.init.normal_(linear.weight, std=std)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
