"""Starting weights of our transformers, all in one place."""

from torch import nn

from multimodal.layers.block import Block


def initialise(embedding: nn.Embedding, positions: nn.Parameter, blocks: nn.ModuleList) -> None:
    """Radford et al. 2021 (CLIP's `initialize_parameters`): normal, residual outputs scaled by depth."""
    nn.init.normal_(embedding.weight, std=0.02)
    nn.init.normal_(positions, std=0.01)
    for block in blocks:
        assert isinstance(block, Block)
        width = block.norm2.normalized_shape[0]
        residual_std = width**-0.5 * (2 * len(blocks)) ** -0.5
        attentions = [part for part in (block.attention, block.cross) if part is not None]
        outputs = [block.mlp[2], *(part.out for part in attentions)]
        for module in block.modules():
            if isinstance(module, nn.Linear):
                std = residual_std if any(module is output for output in outputs) else width**-0.5
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
        assert isinstance(block.mlp[0], nn.Linear)
        nn.init.normal_(block.mlp[0].weight, std=(2 * width) ** -0.5)
